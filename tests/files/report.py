"""Every file of this folder through the doors of the service, compared with what was encoded.

    python -m tests.files.report [--doors SDK command gateway page] [--before CHECKOUT] [--write]

Prints what isn't as it should be, and exits with 1 if there is any. For doors other than the SDK a
real server and a gateway are started, with the tests' tiny checkpoint. --before measures the SDK
and the server of another commit, a checkout of which is in that folder. --write puts the figures
of what was measured into docs/files.csv, and their sum into docs/files.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .cases import KINDS
from .doors import opened
from .figures import DOORS, Row, faulty, known, measured, summary, write


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--doors", nargs="+", choices=DOORS[1:], default=["SDK"])
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--kind", default="", help="words of a kind, of which files are measured")
    parser.add_argument("--write", action="store_true", help="into docs")
    asked = parser.parse_args()
    names = [*(["before"] if asked.before else []), *asked.doors]
    kinds = {kind: list(make()) for kind, make in KINDS.items() if asked.kind in kind.lower()}
    cases = [(kind, case) for kind, made in kinds.items() for case in made]
    rows: list[Row] = []
    with opened(names, asked.before, [case for _, case in cases]) as doors:
        for kind, case in cases:
            rows.append(measured(kind, case, doors))
            if len(rows) % 50 == 0:
                print(f"{len(rows)} of {len(cases)}", file=sys.stderr, flush=True)
    wrong = faulty(rows)
    print(summary(rows), *wrong, f"{len(wrong)} faults", sep="\n")
    if asked.write:
        write(merged(rows))
    return int(bool(wrong))


def merged(rows: list[Row]) -> list[Row]:
    """New figures beside those of doors and kinds that were not measured now."""
    before = {row["file"]: row for row in known()}
    new = {row["file"]: {**before.get(row["file"], {}), **row} for row in rows}
    kinds = {row["kind"] for row in rows}
    old = [row for row in before.values() if row["kind"] not in kinds]
    order = list(KINDS)
    return sorted([*old, *new.values()], key=lambda row: order.index(row["kind"]))


if __name__ == "__main__":
    raise SystemExit(main())
