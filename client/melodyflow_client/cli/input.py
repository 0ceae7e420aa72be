"""The clip that a command is given: a file, or standard input."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from ..audio import Clip, load
from ..errors import AudioError, DeadlineExceeded

STANDARD_INPUT = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")

_LONGEST_NAME = 255 - len("-9999")  # bytes, on nearly all file systems; results are numbered


def load_clip(name: str, timeout: float | None = None) -> tuple[Clip, float | None]:
    """The clip, and what is left of the timeout, in seconds, which decoding counts against but
    waiting for a pipe doesn't. Ctrl-C ends the waiting.

    Raises AudioError, DeadlineExceeded.
    """
    begun: float | None = None  # once the input is there

    def seconds() -> float:
        return 0.0 if begun is None else time.monotonic() - begun

    def check() -> None:
        nonlocal begun
        begun = time.monotonic() if begun is None else begun
        if timeout is not None and seconds() >= timeout:
            raise DeadlineExceeded(f"timeout: the audio wasn't decoded within {timeout:g} s")

    try:
        clip = load(_standard_input() if name in STANDARD_INPUT else name, check=check)
    except OSError as error:
        raise AudioError(f"audio: cannot read {name!r}: {error.strerror}") from error
    return clip, None if timeout is None else max(timeout - round(seconds(), 1), 0.001)


def named_after(source: str, end: str) -> str:
    """The name of a result: `riff-celtic.wav` for the source `riff.wav` and the end `celtic.wav`,
    the end alone for a pipe without a name. A stem that is too long for that is cut."""
    if source in STANDARD_INPUT or source.startswith(("/dev/fd/", "/proc/")):
        return end
    stem = Path(source).stem
    while len(os.fsencode(f"{stem}-{end}")) > _LONGEST_NAME:
        stem = stem[:-1]
    return f"{stem}-{end}"


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise AudioError("audio: standard input is closed; name a file, or pipe one into it")
    if sys.stdin.isatty():
        raise AudioError("audio: standard input is a terminal; name a file, or pipe one into it")
    os.set_blocking(sys.stdin.fileno(), True)  # else what comes late would be missing
    return sys.stdin.buffer
