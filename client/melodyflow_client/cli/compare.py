"""`melodyflow compare`: how alike two audio files are."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from ..comparison import Comparison, Heard, compare_heard
from ..errors import InvalidRequest
from .command import AddCommand
from .input import STANDARD_INPUT, load_clip
from .streams import json_text, say, shown_name

MONO = 3.01  # LU: a mono clip played by two speakers is this much louder than it measures

_NOTES = """\
examples:
  melodyflow compare riff.wav riff-strings_quartet.wav
  melodyflow compare riff.wav riff-strings_quartet.wav --plot strings.png

Needs no server, but the extra `compare`: pip install "melodyflow-client[compare]" (0.3 GB).

"""


def add(add_command: AddCommand) -> None:
    """Adds the command."""
    parser = add_command("compare", _run, "measure how alike two audio files are", _NOTES)
    parser.add_argument(
        "a", metavar="A", help="the source, which B is compared with; - is standard input"
    )
    parser.add_argument("b", metavar="B", help="the result")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw waveforms and chromagrams of both: PNG, SVG or PDF"
    )


def _run(arguments: argparse.Namespace) -> int:
    from .comparison_plot import check_plot, plot

    if arguments.plot:
        check_plot(arguments.plot)
    if arguments.a in STANDARD_INPUT and arguments.b in STANDARD_INPUT:
        raise InvalidRequest("compare: A and B are both standard input; name a file for one")
    a, b = (Heard(load_clip(name)[0]) for name in (arguments.a, arguments.b))
    names = (shown_name(arguments.a), shown_name(arguments.b))
    comparison = compare_heard(a, b)
    if arguments.json:
        say(json_text(dataclasses.asdict(comparison), sys.stdout))
    else:
        say(table(comparison, *names))
    if arguments.plot:
        plot(a, b, names, arguments.plot)
    return 0


def table(comparison: Comparison, a: str, b: str) -> str:
    """The comparison as a table; a and b are the clips' names."""
    rows = [("", a, b, ""), *_of_each(comparison)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    widths[0] = max(widths[0], len("chroma correlation"))
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, (*widths, 0), strict=True))
        for row in rows
    ]
    lines += [f"{title:<{widths[0]}}  {text}" for title, text in _of_both(comparison)]
    return "\n".join(line.rstrip() for line in lines)


def _of_each(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    a, b = comparison.a, comparison.b
    longer = b.seconds - a.seconds
    same = "-" if a.key is None or b.key is None else "same" if a.key == b.key else "another"
    louder = None
    if a.loudness is not None and b.loudness is not None:
        louder = b.loudness - a.loudness + MONO * ((b.channels == 1) - (a.channels == 1))
    return [
        ("length", f"{a.seconds:.3f} s", f"{b.seconds:.3f} s", f"{longer:+.3f} s"),
        (
            "loudness",
            _figure(a.loudness, ".1f", " LUFS"),
            _figure(b.loudness, ".1f", " LUFS"),
            _figure(louder, "+.1f", " LU"),
        ),
        (
            "tempo",
            _figure(a.tempo, ".1f", " BPM"),
            _figure(b.tempo, ".1f", " BPM"),
            _figure(comparison.tempo_error, "+.1f", " %"),
        ),
        ("key", a.key or "-", b.key or "-", same),
    ]


def _of_both(comparison: Comparison) -> list[tuple[str, str]]:
    shifts = comparison.chroma_by_shift
    if shifts is None or comparison.transposition is None:
        return [("correlations", "-  (silence)")]
    best = f"{comparison.transposition:+d} semitones" if comparison.transposition else "none"
    return [
        (
            "chroma correlation",
            f"{comparison.chroma_correlation:.2f}  (1 = the same notes at the same time)",
        ),
        ("by 0-11 semitones", " ".join(f"{shift:.2f}" for shift in shifts)),
        ("transposition", f"{best}  ({max(shifts):.2f})"),
        (
            "onset correlation",
            f"{comparison.onset_correlation:.2f}  (1 = the same rhythm at the same time)",
        ),
    ]


def _figure(value: float | None, form: str, unit: str) -> str:
    return "-" if value is None else f"{value:{form}}{unit}"
