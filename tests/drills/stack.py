"""The services of docker-compose.yml's CPU profile, built from a copy of the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .engine import Failed, docker, run

TRITON, GATEWAY = "triton-cpu", "gateway"
READY = "http://127.0.0.1:8002/ready"
_KEPT_OUT = (".git", ".venv", ".cache", ".*_cache", "__pycache__", "node_modules", "out", "shared")


@dataclass
class Stack:
    """folder: the copy of the checkout. variables: docker-compose.yml's."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    scale: int = 1

    def compose(self, *arguments: str, timeout: float = 900.0) -> str:
        """What a compose command prints. Raises Failed."""
        command = ["docker", "compose", "--profile", "cpu", *arguments]
        return run(command, environment=self.variables, folder=self.folder, timeout=timeout)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """The same in the background."""
        return subprocess.Popen(
            ["docker", "compose", "--profile", "cpu", *arguments],
            env={**os.environ, **self.variables},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    @contextmanager
    def up(self, *services: str, **variables: str) -> Iterator[None]:
        """Has the services, or all of them, ready."""
        before = self.variables
        self.variables = {**before, **variables}
        try:
            self.compose(
                "up", "--detach", "--no-build", "--wait", "--wait-timeout", "120", *services
            )
            yield
        except Failed as error:
            raise Failed(f"{error}\n{self.log()}") from None
        finally:
            self.compose("down", "--volumes", "--timeout", "5")
            self.variables = before

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).split()[0]

    def state(self, service: str) -> dict[str, Any]:
        """Docker's account of a service's container."""
        [found] = json.loads(docker("inspect", self.container(service)))
        return dict(found)

    def pids(self, service: str, name: str) -> list[int]:
        """The processes of a container whose command begins with a name, as numbers here."""
        listed = docker("top", self.container(service), "-eo", "pid,comm").splitlines()[1:]
        return [int(line.split()[0]) for line in listed if line.split()[1].startswith(name)]

    def log(self) -> str:
        """The end of what the services have said."""
        return self.compose("logs", "--no-color", "--tail", "40")


def copy_of_checkout(root: Path, folder: Path) -> Path:
    """A copy that only its owner can read, as a checkout with umask 077 is."""
    shutil.copytree(root, folder, symlinks=True, ignore=shutil.ignore_patterns(*_KEPT_OUT))
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


def environment_of(inspected: Mapping[str, Any]) -> dict[str, str]:
    """A container's environment."""
    return dict(word.split("=", 1) for word in inspected["Config"]["Env"])
