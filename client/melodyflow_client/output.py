"""Where a result of the command goes, and what is said of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from .errors import InvalidRequest
from .events import Result


def prepare_output(asked: str | None, default: str, source: Path | None = None) -> Path:
    """The path to write to, its folder made and writable, never the source's.

    asked: a file, which is replaced, or a folder, or None for the current folder; in a folder the
    default name is used, counted up where it is taken: an earlier take is not lost.
    Raises InvalidRequest, before any work is done.
    """
    if asked is None:
        path = _free(Path(default))
    elif asked.endswith(("/", os.sep)) or Path(asked).is_dir():
        path = _free(Path(asked) / default)
    else:
        path = Path(asked)
    suffixes = (".flac",) if default.endswith(".flac") else (".wav", ".wave")
    if path.suffix.lower() not in ("", *suffixes):
        raise InvalidRequest(f"output: {path} does not fit the format, {' or '.join(suffixes)}")
    if source and path.exists() and source.exists() and path.samefile(source):
        raise InvalidRequest(f"output: {path} is the input; it is never overwritten")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"output: cannot make {path.parent}: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK):
        raise InvalidRequest(f"output: {path.parent} is not writable")
    return path


def _free(path: Path) -> Path:
    if not path.exists():
        return path
    candidates = (path.with_stem(f"{path.stem}-{n}") for n in count(2))
    return next(candidate for candidate in candidates if not candidate.exists())


def suffix(container: str | None) -> str:
    """Of a file in a format of the contract."""
    return ".flac" if container == "flac" else ".wav"


def facts_of(output: Path, result: Result) -> dict[str, object]:
    """What `--json` prints of a result."""
    channels, samples = result.waveform.shape
    return {
        "output": str(output),
        "variation": result.variation,
        "seed": result.seed,
        "seconds": round(result.seconds, 6),
        "sample_rate": result.sample_rate,
        "channels": channels,
        "samples": samples,
        "peak": round(result.peak, 6),
        "gain_db": result.gain_db,
        "request_id": result.request_id,
        "info": dict(result.info),
    }


def sentence(facts: Mapping[str, Any]) -> str:
    """The facts that a reader wants to know."""
    said = [
        f"{facts['seconds']:.3f} s",
        f"{facts['sample_rate']} Hz",
        f"{facts['channels']} channels",
        f"peak {facts['peak']:.3f}",
    ]
    loudness = facts["info"].get("loudness") or {}
    if loudness.get("result_lufs") is not None:
        limited = " (as loud as -1 dBTP allows)" if loudness.get("limited_by") else ""
        said.append(f"{loudness['result_lufs']:.1f} LUFS{limited}")
    if round(facts["gain_db"], 1):
        way = "up" if facts["gain_db"] > 0 else "down"
        said.append(f"turned {way} by {abs(facts['gain_db']):.1f} dB")
    return ", ".join([*said, f"seed {facts['seed']}"])
