"""Draws two clips: waveforms and chromagrams on one time axis."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..comparison import Heard, require
from ..errors import InvalidRequest
from ..measures import CHROMA_HOP, NOTES, RATE
from ..saving import check_writable, write_file

SUFFIXES = (".png", ".svg", ".pdf")
_COLUMNS = 2000  # of a waveform: more than the picture is wide


def check_plot(path: str | os.PathLike[str]) -> None:
    """Raises InvalidRequest for an unknown suffix, a path that can't be written, or if matplotlib
    isn't installed."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InvalidRequest(f"plot: unknown format {str(path)!r}; use {', '.join(SUFFIXES)}")
    try:
        check_writable(path)
    except OSError as error:
        raise InvalidRequest(f"plot: cannot write {str(path)!r}: {error.strerror}") from error
    require("matplotlib")


def plot(a: Heard, b: Heard, names: tuple[str, str], path: str | os.PathLike[str]) -> None:
    """Writes the picture in the format of the suffix.

    Raises InvalidRequest as check_plot() does, and OSError.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True, height_ratios=(1, 1, 1.6, 1.6))
    longest = max(a.seconds, b.seconds)
    level = max(float(np.abs(clip.mono).max(initial=0.0)) for clip in (a, b)) or 1.0
    for axis, clip, name, colour in zip(axes[:2], (a, b), names, ("C0", "C1"), strict=True):
        _draw_waveform(axis, clip, colour)
        axis.set(title=name, ylim=(-level, level), xlim=(0, longest))
    for axis, clip, name in zip(axes[2:], (a, b), names, strict=True):
        mesh = _draw_chroma(axis, clip)
        axis.set(title=f"{name}: notes")
    figure.colorbar(mesh, ax=axes[2:], label="strength of a note", pad=0.01)
    axes[-1].set_xlabel("seconds")
    picture = io.BytesIO()
    figure.savefig(picture, format=Path(path).suffix[1:].lower(), dpi=120)
    write_file(path, picture.getvalue())


def _draw_waveform(axis: Any, clip: Heard, colour: str) -> None:
    columns = np.array_split(clip.mono, min(_COLUMNS, len(clip.mono)))
    times = np.linspace(0, clip.seconds, len(columns))
    lowest, highest = ([fold(column) for column in columns] for fold in (np.min, np.max))
    axis.fill_between(times, lowest, highest, color=colour, linewidth=0)
    axis.set_ylabel("amplitude")


def _draw_chroma(axis: Any, clip: Heard) -> Any:
    chroma = np.zeros((12, 1)) if clip.chroma is None else clip.chroma
    seconds = clip.seconds if clip.chroma is None else chroma.shape[1] * CHROMA_HOP / RATE
    axis.set_yticks(range(12), NOTES, fontsize=7)
    return axis.imshow(
        chroma,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(0, seconds, -0.5, 11.5),
        vmin=0,
        vmax=1,
        cmap="magma",
    )
