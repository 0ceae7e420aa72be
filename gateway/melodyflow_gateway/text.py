"""Text that clients send: it is UTF-8, and errors show a part of it."""

from __future__ import annotations

import codecs

from .problems import Problem

SHOWN = 80  # characters of a wrong value
_PIECE = 2**20  # bytes: one call for tens of megabytes would keep Python's lock all that time


def utf8(name: str, value: bytes | bytearray) -> None:
    """Raises Problem, 400, for a value that isn't UTF-8."""
    decoder, whole = codecs.getincrementaldecoder("utf-8")(), memoryview(value)
    try:
        for at in range(0, len(whole), _PIECE):
            decoder.decode(bytes(whole[at : at + _PIECE]))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise Problem(400, f"{name}: {short(value)} is not UTF-8") from None


def short(value: str | bytes | bytearray) -> str:
    """The beginning of a value, between quotes."""
    cut = value[: SHOWN + 1]
    text = repr(cut if isinstance(cut, str) else bytes(cut)).removeprefix("b")
    return text if len(text) <= SHOWN + 2 else f"{text[: SHOWN + 1]}…{text[0]}"
