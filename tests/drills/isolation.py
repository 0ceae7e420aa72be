"""Runs a command in namespaces of its own: network, mounts, processes. When it ends, however it
does, the kernel ends everything in them: engine, containers, networks, mounts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

OUTSIDE = "DRILLS_OUTSIDE"  # environment: descriptor of the machine's own network
GROUPS = Path("/sys/fs/cgroup")

_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child")


def obstacle() -> str:
    """Why this machine gives no namespaces, as root in most containers finds; "" if it does."""
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else tried.stderr.strip() or "it does not say why"


def isolated(module: str, arguments: Sequence[str]) -> int:
    """Runs a Python module so, as process 1 there. Returns its exit code."""
    network = os.open("/proc/self/ns/net", os.O_RDONLY)
    command = ["setpriv", "--pdeathsig", "KILL", "--"]  # it does not outlive this process either
    command += [*_UNSHARE, sys.executable, "-m", module, *arguments]
    environment = {**os.environ, OUTSIDE: str(network)}
    process = subprocess.Popen(command, env=environment, pass_fds=[network])
    try:
        return process.wait()
    finally:
        process.kill()
        process.wait()
        os.close(network)


def outside(*command: str) -> list[str]:
    """A command in the machine's own network."""
    return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{os.environ[OUTSIDE]}", "--", *command]


def as_first_process(main: Sequence[str]) -> int:
    """Runs a command as a child, and reaps what the engine leaves to process 1."""
    child = subprocess.Popen(main, pass_fds=[int(os.environ[OUTSIDE])])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: child.send_signal(number))
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status)


def mount_disk(file: Path, folder: Path, size: int) -> bool:
    """Mounts a new file system without a journal, which is quick with the many small files of
    images and is gone with one file. Returns whether it could: not every machine has loop devices.
    """
    with file.open("wb") as image:
        image.truncate(size)
    folder.mkdir()
    make = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"]
    mount = ["mount", "-o", "loop,noatime", str(file), str(folder)]
    commands = ([*make, str(file)], mount)
    return all(subprocess.run(one, capture_output=True).returncode == 0 for one in commands)


@contextmanager
def way_out(folder: Path) -> Iterator[None]:
    """Lets containers reach the internet, and not this machine, for as long as it is open."""
    ready, told = os.pipe()
    own = f"/proc/{os.getpid()}/ns/net"
    options = ["--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={told}"]
    with (folder / "slirp4netns.log").open("w") as log:
        process = subprocess.Popen(
            outside("slirp4netns", *options, "--netns-type=path", own, "tap0"),
            pass_fds=[told, int(os.environ[OUTSIDE])],
            stdout=log,
            stderr=log,
        )
    os.close(told)
    try:
        if os.read(ready, 1) != b"1":
            raise RuntimeError(f"no way out: {(folder / 'slirp4netns.log').read_text()}")
        yield
    finally:
        os.close(ready)
        process.kill()
        process.wait()


def remove_groups(name: str, seconds: float = 20.0) -> list[Path]:
    """Removes the control groups that a killed engine leaves behind, once their processes, which
    were killed with it, have ended. Returns what can't be removed within some seconds."""
    until = time.monotonic() + seconds
    while left := _remove_groups(name):
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    return left


def _remove_groups(name: str) -> list[Path]:
    left = []
    for top in (*GROUPS.glob(name), *GROUPS.glob(f"*/{name}")):
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                left.append(Path(folder))
    return left
