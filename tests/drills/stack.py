"""The services of the compose files' CPU profile, built from a copy of the checkout."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .engine import Failed, docker, run

TRITON, GATEWAY = "triton-cpu", "gateway"
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".cache", ".*_cache", "__pycache__", "node_modules"
)


@dataclass
class Stack:
    """folder: the copy of the checkout. variables: those of its compose files."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    files: Sequence[str] = ("docker-compose.yml",)

    def compose(self, *arguments: str, timeout: float = 900.0) -> str:
        """What a compose command prints. Raises Failed."""
        files = [f"--file={name}" for name in self.files]
        command = ["docker", "compose", *files, "--profile", "cpu", *arguments]
        return run(command, environment=self.variables, folder=self.folder, timeout=timeout)

    @contextmanager
    def up(self, *arguments: str, **variables: str) -> Iterator[None]:
        """Has the services that are named, or all of them, ready."""
        before = self.variables
        self.variables = {**before, **variables}
        wait = ["--detach", "--no-build", "--wait", "--wait-timeout", "120"]
        try:
            try:
                self.compose("up", *wait, *arguments)
            except Failed as error:
                raise Failed(f"{error}\n{self.log()}") from None
            yield
        finally:
            self.compose("down", "--volumes", "--timeout", "5")
            self.variables = before

    def read(self) -> dict[str, Any]:
        """The services as Compose reads them."""
        return dict(json.loads(self.compose("config", "--format", "json"))["services"])

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers."""
        return self.compose("ps", "--all", "--quiet", service).split()

    def container(self, service: str) -> str:
        """The id of a service's only container, or of its first."""
        return self.containers(service)[0]

    def state(self, service: str) -> dict[str, Any]:
        """Docker's account of a service's container."""
        return inspect(self.container(service))

    def pids(self, service: str, name: str) -> list[int]:
        """The processes of a container whose command begins with a name, as numbers here."""
        listed = docker("top", self.container(service), "-eo", "pid,comm").splitlines()[1:]
        return [int(line.split()[0]) for line in listed if line.split()[1].startswith(name)]

    def log(self) -> str:
        """The end of what the services have said."""
        return self.compose("logs", "--no-color", "--tail", "40")


def inspect(container: str) -> dict[str, Any]:
    """Docker's account of a container."""
    [found] = json.loads(docker("inspect", container))
    return dict(found)


def address(container: str) -> str:
    """A container's address in its only network, which the drills share."""
    [network] = inspect(container)["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def copy_of_checkout(root: Path, folder: Path) -> Path:
    """A copy that only its owner can read, as a checkout with umask 077 is."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        if Path(folder) == root / "checkpoints":  # there may be gigabytes of others
            return set(names) - {"demo"}
        if Path(folder) == root:
            return _LEFT_OUT(folder, names) | {"out", "shared", "checkpoints-local"}
        return set(_LEFT_OUT(folder, names))

    shutil.copytree(root, folder, symlinks=True, ignore=left_out)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    return folder


def build(stack: Stack, torch: str) -> None:
    """Builds both images. torch: what pip is told to install in the place of the CUDA wheel."""
    stack.compose("build", "--quiet", "--build-arg", f"TORCH=--no-deps {torch}")


def eventually(question: Callable[[], object], seconds: float, what: str) -> float:
    """How many seconds it took until a question was answered with yes. Raises Failed."""
    began = time.monotonic()
    while not question():
        if time.monotonic() - began > seconds:
            raise Failed(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)
    return time.monotonic() - began


def check(so: object, what: str, found: object = None) -> None:
    """Raises Failed unless it is so."""
    if not so:
        raise Failed(f"not so: {what}" + ("" if found is None else f"; found {found!r}"))


def check_fails(action: Callable[[], object], what: str) -> None:
    """Raises Failed if an action doesn't."""
    try:
        action()
    except Failed:
        return
    raise Failed(f"not so: {what}")
