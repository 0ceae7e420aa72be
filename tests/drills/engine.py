"""A Docker engine of the drills' own, and what is asked of it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .isolation import outside

START_SECONDS = 60.0


class Failed(Exception):
    """What a drill promises and isn't so, or a command that failed, with its last words."""


@contextmanager
def engine(work: Path, group: str) -> Iterator[None]:
    """Runs a Docker engine whose files are in `work` and whose containers are in a control group,
    and tells every `docker` of it. The machine's own, if it has one, is left alone."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ["DOCKER_HOST"] = f"unix://{work}/docker.sock"
    os.environ["DOCKER_CONFIG"] = str(work / "config")
    command = ["dockerd", "--host", os.environ["DOCKER_HOST"], "--cgroup-parent", f"/{group}"]
    command += ["--data-root", str(work / "data"), "--exec-root", str(work / "exec")]
    command += ["--pidfile", str(work / "docker.pid"), "--dns", "10.0.2.3"]
    with (work / "dockerd.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + START_SECONDS
        while subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
            if process.poll() is not None or time.monotonic() > until:
                raise Failed(f"the engine doesn't start:\n{tail(work / 'dockerd.log')}")
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def docker(*arguments: str, **options: object) -> str:
    """What a docker command prints. Raises Failed."""
    return run(["docker", *arguments], **options)


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout: float = 900.0,
    out: bool = False,
) -> str:
    """What a command prints. `out`: in the machine's own network. Raises Failed."""
    done = subprocess.run(
        outside(*command) if out else command,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        pass_fds=[int(os.environ["DRILLS_OUTSIDE"])] if out else (),
    )
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip()[-4000:]
        raise Failed(f"{' '.join(command[:6])}: exit code {done.returncode}\n{said}")
    return done.stdout


def tail(path: Path, characters: int = 4000) -> str:
    """The end of a log."""
    return path.read_text(errors="replace")[-characters:] if path.exists() else ""
