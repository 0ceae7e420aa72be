"""The process table: a tritonserver, the processes of its models, and how they end."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

STUB = "triton_python_backend_stub"[:15]  # the kernel keeps 15 characters

# Seconds past the exit timeout until Triton is killed: it can hang while a client keeps a stream
# open.
KILL_AFTER = 5


class Process(NamedTuple):
    """An entry of the process table."""

    name: str
    state: str  # a letter of proc(5): T stopped, Z zombie
    parent: int
    started: str  # distinguishes a process from a later one with the same pid


def read_process(pid: int) -> Process | None:
    """Returns None if there is no such process."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return None
    fields = rest.split()
    return Process(name.partition("(")[2], fields[0], int(fields[1]), fields[19])


def runs(pid: int, started: str) -> bool:
    """Whether the process that started then is still running. A zombie isn't."""
    process = read_process(pid)
    return process is not None and process.started == started and process.state not in "ZX"


def models_of(server: int) -> dict[int, str]:
    """The processes of a tritonserver's models: pid -> start time. Includes one that has died,
    which stays a zombie until tritonserver reaps it."""
    everything = {
        pid: process
        for entry in Path("/proc").glob("[0-9]*")
        if (process := read_process(pid := int(entry.name)))
    }

    def descends(pid: int) -> bool:  # there may be a script in between
        while pid in everything and pid != server:
            pid = everything[pid].parent
        return pid == server

    return {
        pid: process.started
        for pid, process in everything.items()
        if process.name == STUB and descends(pid) and _is_a_model(pid, process, server)
    }


def _is_a_model(pid: int, stub: Process, server: int) -> bool:
    """Triton asks the stub for its Python's version before it starts the model's, by a shell: that
    one has no arguments, ends after a moment, and is reaped by the shell."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().count(b"\0")
    except OSError:
        return False
    # A zombie has no command line any more, nor has a process that is about to become one.
    return arguments > 1 if arguments else stub.parent == server


def ending(code: int) -> str:
    """Describes a return code of `subprocess`."""
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def end_group(leader: int, seconds: float = 5.0) -> None:
    """Kills a process group, and waits until none of its processes hold a port any more."""
    until = time.monotonic() + seconds
    with suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(leader, signal.SIGKILL)
            if not _group_runs(leader):
                return
            time.sleep(0.02)


def _group_runs(leader: int) -> bool:
    """Whether the group has a process that isn't a zombie. Zombies hold no ports."""
    for entry in Path("/proc").glob("[0-9]*"):
        process = read_process(int(entry.name))
        if process and process.state not in "ZX":
            with suppress(ProcessLookupError):
                if os.getpgid(int(entry.name)) == leader:
                    return True
    return False
