"""The files, command line and environment with which the wheel's tritonserver is started."""

import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from melodyflow.embedded.distribution import Distribution
from melodyflow.embedded.probe import HOST
from melodyflow.serving.settings import PREFIX

# Nobody has the key, so nobody can use these APIs. Tritonserver has no other way to disable them.
CLOSED_APIS = ("model-repository", "shared-memory", "trace", "logging")

# States that this Triton's gRPC front end keeps for reuse. With the default of 8, refused and
# cancelled streams crashed it 3 times in 13,000; with a pool that never fills up, never in 34,000.
# Fixed in newer Tritons (triton-inference-server/server, issues 7368 and 8034).
GRPC_STATES = 4096

# A regular expression: the gRPC metadata that become request parameters (docs/operations.md,
# "Spans").
FORWARDED = "^traceparent$"

# A proxy finds out by pings that a server hangs. By default Triton closes connections that ping
# more often than every 5 minutes while no data flows, as in its queue, or at all without an edit.
GRPC_PINGS = (
    "--grpc-http2-min-recv-ping-interval-without-data=5000",  # milliseconds
    "--grpc-keepalive-permit-without-calls=1",
)

# This Triton's HTTP front end recurses on large JSON bodies (CVE-2025-23310), and this limit sets
# its threads' stack size. 512 MiB of address space is enough for bodies of more than 50 MB.
LAUNCHER = """ulimit -S -s 524288 2>/dev/null || ulimit -S -s "$(ulimit -H -s)"; exec "$@" """

# For glibc's malloc in tritonserver. By default it keeps what its many threads have freed, in
# fragments, and grows with every new mix of sizes. So: few arenas, and large blocks go back to the
# system at once.
MALLOC = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(2**17),
    "MALLOC_TRIM_THRESHOLD_": str(2**17),
}

# Triton passes its environment on to the stub. The model must not get these settings: it allocates
# large tensors at every layer, and fresh pages for each would cost a third of its time.
STUB = """#!/bin/sh
unset {unset}
exec {stub} "$@"
"""


def backends_in(folder: Path, distribution: Distribution) -> Path:
    """Makes the backend folder Triton expects, with the stub next to the Python backend; in the
    wheel they are separate."""
    backend = folder / "backends" / "python"
    shutil.copytree(distribution.backend, backend, ignore=shutil.ignore_patterns("__pycache__"))
    stub = backend / distribution.stub.name
    ours = " ".join(MALLOC.keys() - os.environ.keys())
    stub.write_text(STUB.format(unset=ours, stub=shlex.quote(str(distribution.stub))))
    stub.chmod(0o755)
    return backend.parent


def command(
    binary: Path,
    backends: Path,
    models: Path,
    *,
    shared_memory: str,
    ports: Mapping[str, int],
    exit_timeout: int,
) -> list[str]:
    """The command line of a tritonserver. `shared_memory`: prefix of its regions' names. `ports`:
    of "http", "grpc" and "metrics"."""
    key = f"melodyflow={secrets.token_hex(16)}"
    return [
        str(binary),
        f"--model-repository={models}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={shared_memory}",
        "--model-control-mode=none",
        # config.pbtxt says all: without this the stub is started twice, once to be asked.
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={exit_timeout}",
        *(f"--{name}-address={HOST}" for name in ports),
        *(f"--{name}-port={port}" for name, port in ports.items()),
        f"--http-restricted-api={','.join(CLOSED_APIS)}:{key}",
        f"--grpc-header-forward-pattern={FORWARDED}",
        f"--grpc-infer-allocation-pool-size={GRPC_STATES}",
        f"--grpc-restricted-protocol={','.join(CLOSED_APIS)}:{key}",
        *GRPC_PINGS,
    ]


def environment(
    distribution: Distribution, checkpoint: Path | None, settings: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a tritonserver, with settings as MELODYFLOW_<NAME>. The stub finds its
    packages through `python3` on PATH, so this interpreter comes first."""
    inherited = dict(os.environ)
    inherited.pop("PYTHONHOME", None)
    libraries = [
        str(distribution.libraries),
        *([str(distribution.python_library)] if distribution.python_library else []),
        *([inherited["LD_LIBRARY_PATH"]] if inherited.get("LD_LIBRARY_PATH") else []),
    ]
    made = (
        MALLOC
        | inherited
        | {
            "VIRTUAL_ENV": sys.prefix,
            "PATH": os.pathsep.join(
                (str(Path(sys.executable).parent), inherited.get("PATH", os.defpath))
            ),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "HF_HUB_OFFLINE": "1",  # the service downloads nothing
        }
    )
    if checkpoint is not None:
        made["MELODYFLOW_CHECKPOINT"] = str(checkpoint.resolve())
    return made | {PREFIX + name: value for name, value in settings.items()}
