"""The images, built and run in containers: edits, kills, drains.

    scripts/drills [--short] [NAME...]

Makes a container engine in a network of its own, stand-ins for the base images, both images, and
starts docker-compose.yml's CPU profile with a checkpoint that it converts; then, with stand-ins for
Envoy, Redis and Prometheus, docker-compose.fleet.yml. Nothing of it is left afterwards. Needs root
on Debian and its mirror; elsewhere it says SKIPPED and why, with exit code 0. Exits with 1 when a
promise is broken.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from .behind_envoy import FLEET
from .drills import ALWAYS, OWN, UP
from .isolation import isolated, remove_groups
from .requirements import Skipped, check, install


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/drills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    every = [*UP, *OWN, *FLEET]
    parser.add_argument(
        "--short", action="store_true", help=f"only {', '.join(ALWAYS)}: what CI runs"
    )
    parser.add_argument("name", nargs="*", help=f"of the drills: {', '.join(every)}; default: all")
    given = parser.parse_args()
    unknown = [name for name in given.name if name not in every]
    if unknown:
        parser.error(f"{unknown[0]}: no such drill; there are {', '.join(every)}")
    names = list(ALWAYS) if given.short else given.name or every
    # However it ends, what follows `finally` happens.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = Path(tempfile.mkdtemp(prefix="melodyflow-drills-"))
    try:
        mirror = check(work)
        install(mirror, work)
        return isolated("tests.drills.inside", [str(work), mirror, *names])
    except Skipped as reason:
        print(f"drills: SKIPPED: {reason}")
        return 0
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(work)
        for left in remove_groups(work.name):
            print(f"drills: {left} could not be removed", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
