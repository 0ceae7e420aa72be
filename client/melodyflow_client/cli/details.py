"""What the command prints about a result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..responses import Result
from .failures import complain


def warn(warnings: Iterable[str]) -> None:
    """Prints what was guessed or repaired in the input, which --quiet doesn't hide."""
    for warning in warnings:
        complain(f"warning: {warning}")


def details_of(output: Path, result: Result) -> dict[str, object]:
    """What `--json` prints about a result."""
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
        "warnings": list(result.warnings),
        "info": dict(result.info),
    }


def summary(details: Mapping[str, Any]) -> str:
    """A result in one line, for people."""
    channels = details["channels"]
    parts = [
        f"{details['seconds']:.3f} s",
        f"{details['sample_rate']} Hz",
        f"{channels} channel{'' if channels == 1 else 's'}",
        f"peak {details['peak']:.3f}",
    ]
    loudness = details["info"].get("loudness") or {}
    if loudness.get("result_lufs") is not None:
        limited = " (as loud as -1 dBTP allows)" if loudness.get("limited_by") else ""
        parts.append(f"{loudness['result_lufs']:.1f} LUFS{limited}")
    if round(details["gain_db"], 1):
        way = "up" if details["gain_db"] > 0 else "down"
        parts.append(f"turned {way} by {abs(details['gain_db']):.1f} dB")
    return ", ".join([*parts, f"seed {details['seed']}"])
