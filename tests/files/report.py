"""Every file of this folder through the SDK, and a gateway if one is named, as a table in Markdown.

    python -m tests.files.report [--url http://127.0.0.1:8002] [--kind WORDS] [--write]

Exits with 1 if a file isn't read as it should be. --write puts the table into docs/files.md.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

import requests

from melodyflow_client import AudioError
from melodyflow_client.audio import Clip, load, waveform

from .case import Case, faults, seen
from .cases import KINDS

PAGE = Path(__file__).parents[2] / "docs/files.md"
BEGIN, END = "<!-- files: made by scripts/files --write -->\n", "<!-- end -->\n"


def by_gateway(url: str, data: bytes) -> Clip:
    """What a gateway's /decode makes of a file. Raises AudioError with its text."""
    answer = requests.post(f"{url}/decode", files={"audio": data}, timeout=60)
    if answer.status_code != 200:
        raise AudioError(answer.json()["error"])
    samples, rate = waveform(answer.content)
    told = json.loads(answer.headers.get("X-Melodyflow-Warnings", "[]"))
    return Clip(answer.content, "", rate, samples.shape[0], samples.shape[1], tuple(told))


def row(case: Case, url: str | None) -> tuple[str, list[str]]:
    """A line of the table, and what is wrong."""
    cells = [case.name, f"{len(case.expected)} at {case.rate} Hz"]
    wrong = []
    told: tuple[str, ...] = ()
    for door in ("SDK", "gateway") if url else ("SDK",):
        try:
            clip = by_gateway(str(url), case.data) if door == "gateway" else load(case.data)
        except AudioError as error:
            cells += [f"refused: {error}"]
            wrong.append(f"{door}: {error}")
            continue
        got = seen(clip, case.expected)
        cells += [f"{got.samples}, lag {got.lag}"]
        if case.exact:
            cells[-1] += ", the same samples" if got.error <= 1e-6 else f", to {got.error:.1g}"
        wrong += [f"{door}: {fault}" for fault in faults(case, clip)]
        told = told or clip.warnings
    return f"| {' | '.join([*cells, '; '.join(told)])} |", wrong


def table(title: str, cases: Iterator[Case], url: str | None) -> tuple[list[str], list[str]]:
    heads = ["file", "expected samples", "SDK", *(["gateway"] if url else []), "told"]
    lines = [f"### {title}", "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    wrong = []
    for case in cases:
        line, faulty = row(case, url)
        lines.append(line)
        wrong += [f"{case.name}: {fault}" for fault in faulty]
    return [*lines, ""], wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="of a gateway")
    parser.add_argument("--kind", default="", help="words of a table's title")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    asked = parser.parse_args()
    lines, wrong = [], []
    for title, make in KINDS.items():
        if asked.kind.lower() in title.lower():
            made, faulty = table(title, make(), asked.url)
            lines, wrong = [*lines, *made], [*wrong, *faulty]
    text = "\n".join(lines)
    if asked.write:
        page = PAGE.read_text()
        PAGE.write_text(
            re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}{text}{END}", page, flags=re.DOTALL)
        )
    else:
        print(text)
    print(*wrong, f"{len(wrong)} faults", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
