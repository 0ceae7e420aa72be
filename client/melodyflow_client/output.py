"""Where a result of the command goes."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from .errors import InvalidRequest


def prepare_output(asked: str | None, default: str, source: Path) -> Path:
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
    if path.exists() and source.exists() and path.samefile(source):
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
