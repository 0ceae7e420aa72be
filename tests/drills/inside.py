"""The drills, inside their namespaces: `python -m tests.drills.inside WORK MIRROR [NAME...]`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from melodyflow.tools.convert import convert

from . import standins
from .behind_envoy import FLEET, MADE, fleet_of, up
from .drills import OWN, UP, Drill
from .engine import Failed, docker, engine
from .isolation import as_first_process, mount_disk, way_out
from .requirements import DISK
from .stack import Stack, build, check, copy_of_checkout

BEGAN = time.monotonic()


def say(text: str) -> None:
    """Prints a line with the seconds since the start."""
    print(f"drills: {time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


def main(arguments: Sequence[str]) -> int:
    if os.getpid() == 1:
        return as_first_process([sys.executable, "-m", "tests.drills.inside", *arguments])
    work, mirror, names = Path(arguments[0]) / "disk", arguments[1], arguments[2:]
    if not mount_disk(work.with_name("disk.img"), work, DISK):
        say("no loop device: the images' files are on the machine's own file system")
    try:
        with engine(work, work.parent.name):
            say("a container engine runs")
            stack = made(work, mirror)
            running, own, behind = (
                {name: drill for name, drill in group.items() if name in names}
                for group in (UP, OWN, FLEET)
            )
            if running:
                with stack.up():
                    say("the services are up")
                    run(running, stack)
            run(own, stack)
            if behind:
                fleet = fleet_of(stack, work / "site")
                make_services(fleet, work, mirror)
                with up(fleet):
                    say("two servers are up behind Envoy")
                    run(behind, fleet)
            left = docker("ps", "--all", "--quiet") + docker("volume", "ls", "--quiet")
            check(not left, "no container and no volume is left", left)
    except Failed as failed:
        say(f"FAILED: {failed}")
        return 1
    say(f"all {len(names)} drills passed")
    return 0


def made(work: Path, mirror: str) -> Stack:
    """The images, built from a checkout with umask 077, and a freshly converted checkpoint."""
    python, triton = standins.bases()
    parity = standins.ROOT / "tests/data/parity"
    with ThreadPoolExecutor() as pool:
        others = [
            pool.submit(standins.make_debian, work, mirror),
            pool.submit(standins.stage_triton, work / "triton"),
            pool.submit(convert, parity / "tiny", work / "tiny", t5=parity / "t5"),
        ]
        kind = standins.stage_python(work / "python")
        for other in others:
            other.result()
    standins.build(python, "python", work / "python")
    standins.build(triton, "triton", work / "triton")
    say(f"stand-ins: {python} with {kind}, {triton} with 2.51")
    checkout = copy_of_checkout(standins.ROOT, work / "checkout")
    with way_out(work):
        stack = Stack(checkout, {"MELODYFLOW_CHECKPOINT": str(work / "tiny")})
        build(stack, standins.torch())
    say("both images are built, from a checkout with umask 077")
    return stack


def make_services(fleet: Stack, work: Path, mirror: str) -> None:
    """Stand-ins for the other images of docker-compose.fleet.yml."""
    standins.make_debian(work, mirror, "services")
    standins.stage_services(work / "services")
    read = fleet.read()
    for name in MADE:
        standins.build(read[name]["image"], "services", work / "services", name)
    say(f"stand-ins: {', '.join(read[name]['image'] for name in MADE)}")


def run(drills: Mapping[str, Drill], stack: Stack) -> None:
    """Runs drills one after the other. Raises Failed, with the name of the first that fails."""
    for name, drill in drills.items():
        try:
            found = drill(stack)
        except Failed as failed:
            raise Failed(f"{name}: {failed}\n{stack.log()}") from None
        say(f"{name}: {found}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
