"""A report in parts: figures as JSON, as tables and as a picture."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Report:
    """The figures so far, written to report.json and, as tables, report.md after every part."""

    def __init__(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        self.figures: dict[str, Any] = {}

    def part(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Runs one part. If it fails, the error is recorded and the next part still runs."""
        started = time.monotonic()
        try:
            self.figures[name] = measure()
        except Exception as error:
            self.figures[name] = {"failed": f"{error!r:.1000}"}
        print(f"{name}: {time.monotonic() - started:.0f} s\n\n{table(self.figures[name])}\n")
        sys.stdout.flush()
        (self.out / "report.json").write_text(json.dumps(self.figures, indent=2) + "\n")
        parts = [f"## {name}\n\n{table(figures)}\n" for name, figures in self.figures.items()]
        (self.out / "report.md").write_text("\n".join(parts))


def table(figures: dict[str, Any]) -> str:
    """A part's figures in Markdown: a row each, or a column for each measurement of several."""
    several = {name: row for name, row in figures.items() if isinstance(row, dict)}
    columns = several or {"value": figures}
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    lines = [["", *columns], ["---"] * (1 + len(columns))]
    lines += [[key, *(_short(column.get(key, "")) for column in columns.values())] for key in keys]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plot(figures: dict[str, Any], out: Path) -> dict[str, Any]:
    """Rates over tokens and edits a second over concurrency, as a picture."""
    try:
        import matplotlib
    except ImportError:
        return {"skipped": "no matplotlib"}
    matplotlib.use("Agg")
    from matplotlib import pyplot

    canvas, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    calls = figures.get("network", {})
    tokens = [int(each) for each in calls]
    left.plot(tokens, [calls[str(t)]["products_tflops"] for t in tokens], "o--", label="products")
    left.plot(tokens, [calls[str(t)]["tflops"] for t in tokens], "o-", label="network call")
    left.set(xlabel="tokens a call", ylabel="TFLOP/s", xscale="log", ylim=(0, None))
    left.legend()
    crowds = figures.get("crowd", {})
    if "failed" in calls or "failed" in crowds:
        return {"skipped": "a part of it failed"}
    counts = [int(each) for each in crowds]
    right.plot(counts, [crowds[str(c)]["edits_a_second"] for c in counts], "o-")
    right.set(xlabel="edits at once", ylabel="edits a second", ylim=(0, None))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    machine = figures["machine"]
    canvas.suptitle(f"{machine.get('gpu', 'CPU')}, torch {machine['torch']}")
    canvas.tight_layout()
    canvas.savefig(out / "report.png", dpi=110)
    return {"file": "report.png"}
