"""Standard output and standard error, whatever state they are in.

Messages never cost an edit: those that can't be written are dropped. What goes to standard output
is data: file names are the bytes that they are, unless a terminal shows them.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

_NONE = cast(TextIO, None)  # what Python itself sets for a stream that is closed

_failure: OSError | None = None  # of standard output


class _Unfailing:
    """A text stream that drops what it can't write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def steady_streams() -> Iterator[None]:
    """Makes standard error a stream that never fails."""
    global _failure
    _failure = None
    _open_closed()
    before = sys.stderr
    stream = before or open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    sys.stderr = cast(TextIO, _Unfailing(stream))
    try:
        yield
    finally:
        sys.stderr = before
        try:
            stream.flush()
        except (OSError, ValueError):
            sys.stderr = _NONE  # else Python would try again and exit with 120


def _open_closed() -> None:
    """Opens the standard streams that are closed. Else the next file would get their numbers, and
    in it what libraries print."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def say(what: str | Path) -> None:
    """Prints lines, or the path of a file, on standard output at once. If that fails, nothing more
    is printed there, and output_failure() tells why."""
    global _failure
    stream = sys.stdout
    if stream is None:
        return
    try:
        stream.flush()
        if is_terminal(stream) or not hasattr(stream, "buffer"):
            stream.write(_encodable(_text(what), stream.encoding or "utf-8") + "\n")
        else:
            stream.buffer.write(_bytes(what, stream.encoding) + b"\n")
            stream.buffer.flush()
        stream.flush()
    except (OSError, ValueError) as error:  # ValueError: the stream has been closed
        sys.stdout = _NONE
        _failure = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))


def output_failure() -> OSError | None:
    """Why standard output could not be written; None: it could, or whoever read it has left."""
    return None if isinstance(_failure, BrokenPipeError) else _failure


def json_text(value: object, stream: TextIO | None, indent: int | None = 2) -> str:
    """JSON, with escapes for what the stream can't encode."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def is_terminal(stream: TextIO | None) -> bool:
    stream = getattr(stream, "rich_proxied_file", stream)  # while bars are shown
    return stream is not None and stream.isatty()


def shown_name(name: str | Path) -> str:
    """A file's name in one line."""
    return printable(str(name)).replace("\n", "\\n")


def printable(text: str) -> str:
    """Text with escapes for control characters but line ends, and for bytes that are no text."""
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs"):
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name, as Python reads names
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _text(what: str | Path) -> str:
    return shown_name(what) if isinstance(what, Path) else printable(what)


def _encodable(text: str, encoding: str) -> str:
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _bytes(what: str | Path, encoding: str) -> bytes:
    if isinstance(what, Path):
        return os.fsencode(what)
    return what.encode(encoding, "backslashreplace")
