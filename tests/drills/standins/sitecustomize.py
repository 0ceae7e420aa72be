"""The stub of Triton 2.51 dies with numpy 2: it alone gets numpy 1."""

import sys

with open("/proc/self/cmdline", "rb") as command:
    if b"triton_python_backend_stub" in command.read():
        sys.path.insert(0, "/opt/tritonserver/numpy1")
