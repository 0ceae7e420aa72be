"""The end of the tritonserver that started the model's process."""

import subprocess
import sys

from melodyflow.serving.service import end_server

# Stands for the model's process: its parent is this test.
STUB = """
import sys
from melodyflow.serving.service import end_server
end_server(int(sys.argv[1]))
"""
# Stands for tritonserver: starts the model's process and waits for its own end.
SERVER = """
import os, subprocess, sys, time
subprocess.run([sys.executable, "-c", sys.argv[1], str(os.getpid())])
time.sleep(60)
"""


def test_the_parent_is_asked_to_end() -> None:
    ended = subprocess.run([sys.executable, "-c", SERVER, STUB], timeout=60)
    assert ended.returncode == -15


def test_who_has_a_former_parents_pid_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        end_server(stranger.pid)
        assert stranger.stdin
        stranger.stdin.close()
        assert stranger.wait(60) == 1  # of the input's end, not of a signal
