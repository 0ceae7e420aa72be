"""The process table: a tritonserver, the processes of its models, and how they end."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

STUB = "triton_python_backend_stub"[:15]  # as the kernel keeps it

# Seconds beyond the exit timeout after which Triton is killed: it may hang then while some client
# keeps a stream open.
KILL_AFTER = 5


class Process(NamedTuple):
    """An entry of the process table."""

    name: str
    state: str  # a letter of proc(5): T stopped, Z zombie
    parent: int
    started: str  # tells a process from a later one with its number


def read_process(pid: int) -> Process | None:
    """None: there is no such process."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return None
    fields = rest.split()
    return Process(name.partition("(")[2], fields[0], int(fields[1]), fields[19])


def runs(pid: int, started: str) -> bool:
    """Whether the process that started then still does; a zombie does not."""
    process = read_process(pid)
    return process is not None and process.started == started and process.state not in "ZX"


def models_of(server: int) -> dict[int, str]:
    """The processes of the models that a tritonserver has loaded: pid -> when it started. One
    that has died since is among them, a zombie as long as tritonserver does not ask after it."""
    everything = {
        pid: process
        for entry in Path("/proc").glob("[0-9]*")
        if (process := read_process(pid := int(entry.name)))
    }

    def descends(pid: int) -> bool:  # a script may stand between the two
        while pid in everything and pid != server:
            pid = everything[pid].parent
        return pid == server

    return {
        pid: process.started
        for pid, process in everything.items()
        if process.name == STUB and descends(pid)
    }


def ending(code: int) -> str:
    """What a return code of `subprocess` says in words."""
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def end_group(leader: int, seconds: float = 5.0) -> None:
    """Kills a process group, and waits some seconds until nothing of it holds a port any more."""
    until = time.monotonic() + seconds
    with suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(leader, signal.SIGKILL)
            if not _group_runs(leader):
                return
            time.sleep(0.02)


def _group_runs(leader: int) -> bool:
    """Whether the group has a process that is not a zombie: those hold nothing any more."""
    for entry in Path("/proc").glob("[0-9]*"):
        process = read_process(int(entry.name))
        if process and process.state not in "ZX":
            with suppress(ProcessLookupError):
                if os.getpgid(int(entry.name)) == leader:
                    return True
    return False
