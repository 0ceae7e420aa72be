"""What was measured of each file, in docs/files.csv, and its sum, in docs/files.md."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from melodyflow_client import AudioError
from melodyflow_client.audio import Clip

from .case import Case, Door, seen, unlike, untold

DOCS = Path(__file__).parents[2] / "docs"
LIST, PAGE = DOCS / "files.csv", DOCS / "files.md"
BEGIN, END = "<!-- files: made by scripts/files --write -->\n", "<!-- end -->\n"

DOORS = ("before", "SDK", "command", "gateway", "page")
COLUMNS = ("kind", "container", "file", "samples", "rate", *DOORS, "told")
BROWSER_ERROR = 2.0**-15  # of a sample: browsers divide by 32767 where others do by 32768
RIGHT = "right"
# cut: fewer samples than there are; untold: as it should be, but without a word of what was
# guessed, repaired or left out
OUTCOMES = (RIGHT, "untold", "cut", "wrong", "refused", "traceback")

Row = dict[str, str]  # by COLUMNS


def measured(kind: str, case: Case, doors: dict[str, Door]) -> Row:
    """A file's row. What is measured at a door begins with one of OUTCOMES."""
    row = {
        "kind": kind,
        "container": case.kind,
        "file": case.name,
        "samples": str(len(case.expected)),
        "rate": str(case.rate),
    }
    for name, door in doors.items():
        clip: Clip | None = None
        try:
            clip = door(case)
            error = max(case.error, BROWSER_ERROR if name == "page" else 0.0)
            row[name] = outcome(replace(case, error=error), clip)
        except AudioError as error:
            row[name] = f"refused: {error}"
        except Exception as error:
            row[name] = f"traceback: {type(error).__name__}: {error}"
        if clip is None or name == "before":
            continue
        told = "; ".join(clip.warnings)
        if plain(told) != plain(row.setdefault("told", told)):
            row[name] = f"untold: says otherwise: {told}"
    return row


def outcome(case: Case, clip: Clip) -> str:
    """One of OUTCOMES and what was seen, in words."""
    got = seen(clip, case.expected)
    words = f"{got.samples} samples, lag {got.lag}"
    if case.exact:
        words += ", the same" if got.error <= 1e-6 else f", to {got.error:.1g}"
    if found := unlike(case, clip):
        fewer = got.samples < len(case.expected) - case.slack and got.lag == 0
        so_far = not case.exact or got.error <= case.error
        return f"{'cut' if fewer and so_far else 'wrong'}: {'; '.join(found)}"
    if untold(case, clip):
        return f"untold: {words}"
    return f"{RIGHT}: {words}"


def plain(told: str) -> str:
    """Warnings without what makes them sentences."""
    return re.sub(r"\W+", " ", told.casefold()).strip()


def known() -> list[Row]:
    """The rows of LIST."""
    if not LIST.exists():
        return []
    with LIST.open(newline="") as file:
        return list(csv.DictReader(file))


def write(rows: Sequence[Row]) -> None:
    """LIST and its sum in PAGE."""
    with LIST.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    page = re.sub(
        f"{BEGIN}.*?{END}", lambda _: BEGIN + summary(rows) + END, PAGE.read_text(), flags=re.S
    )
    PAGE.write_text(page)


def summary(rows: Sequence[Row]) -> str:
    """A table in Markdown: a line for each kind of files and container."""
    heads = ("kind", "container", "files", *DOORS, "largest lag", "told")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for kind, of_kind in groupby(rows, lambda row: row["kind"]):
        shown = kind
        ordered = sorted(of_kind, key=lambda row: row["container"])
        for container, group in groupby(ordered, lambda row: row["container"]):
            lines.append(_line(shown, container, list(group)))
            shown = ""
    lines.append(_line("**all**", "", rows))
    return "\n".join(lines) + "\n"


def _line(kind: str, container: str, rows: Sequence[Row]) -> str:
    lags = [_lag(row.get(door, "")) for row in rows for door in DOORS if door != "before"]
    told = sum(bool(row.get("told")) for row in rows)
    cells = [kind, container, str(len(rows))]
    cells += [_counts(row.get(door, "") for row in rows) for door in DOORS]
    return f"| {' | '.join([*cells, str(max(lags, default=0)), str(told or '')])} |"


def _counts(cells: Iterable[str]) -> str:
    """How many are right, and what the others are."""
    counts = Counter(cell.partition(":")[0] for cell in cells if cell)
    others = [f"{counts[name]} {name}" for name in OUTCOMES[1:] if counts[name]]
    right = f"{counts[RIGHT]} right" if others else str(counts[RIGHT])
    return ", ".join([right, *others]) if counts else "not measured"


def _lag(cell: str) -> int:
    found = re.search(r"lag (-?\d+)", cell)
    return abs(int(found[1])) if found else 0


def faulty(rows: Iterable[Row]) -> list[str]:
    """What isn't right today, in words."""
    return [
        f"{row['file']}: {door}: {row[door]}"
        for row in rows
        for door in DOORS
        if door != "before" and row.get(door) and not row[door].startswith(RIGHT)
    ]
