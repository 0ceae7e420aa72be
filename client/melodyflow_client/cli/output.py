"""Where the command writes a result, and what it prints about it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import InvalidRequest
from ..responses import Result


def prepare_output(asked: str | None, default: str, source: Path | None = None) -> Path:
    """The path to write to, never the source's own; its folder is made if need be.

    asked: a file, which is replaced if it exists, or a folder; None: the current folder. A folder
        gets a file of the default name, numbered if that exists: no earlier take is lost.

    Raises InvalidRequest for a path that doesn't fit the default name's format, is the source's or
    isn't writable.
    """
    if asked is None:
        path = _free(Path(default))
    elif asked.endswith(("/", os.sep)) or Path(asked).is_dir():
        path = _free(Path(asked) / default)
    else:
        path = Path(asked)
    suffixes = (".flac",) if default.endswith(".flac") else (".wav", ".wave")
    if path.suffix.lower() not in ("", *suffixes):
        raise InvalidRequest(
            f"output: {path} doesn't fit the format; name it {' or '.join(suffixes)}"
        )
    if source and path.exists() and source.exists() and path.samefile(source):
        raise InvalidRequest(f"output: {path} is the input, which is never overwritten")
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
    """A file's suffix for a format of the contract."""
    return ".flac" if container == "flac" else ".wav"


def container_of(arguments: argparse.Namespace) -> str | None:
    """The format asked for by --format or by the output's suffix."""
    if arguments.format is None and (arguments.output or "").lower().endswith(".flac"):
        return "flac"
    container: str | None = arguments.format
    return container


def write(arguments: argparse.Namespace, output: Path, result: Result) -> None:
    """Writes the result and prints its path, or with --json its details."""
    result.save(output)
    details = details_of(output, result)
    warn(result.warnings)
    if arguments.json:
        print(json.dumps(details, ensure_ascii=False, indent=2))
    else:
        print(output)
        if not arguments.quiet:
            print(summary(details), file=sys.stderr)


def warn(warnings: Iterable[str]) -> None:
    """Prints what was guessed or repaired in the input, which --quiet doesn't hide."""
    for warning in warnings:
        print(f"melodyflow: warning: {warning}", file=sys.stderr)


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
    parts = [
        f"{details['seconds']:.3f} s",
        f"{details['sample_rate']} Hz",
        f"{details['channels']} channels",
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
