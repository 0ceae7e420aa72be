"""Text that clients send: it is UTF-8, and errors show a part of it."""

from __future__ import annotations

from .problems import Problem

SHOWN = 80  # characters of a wrong value


def utf8(name: str, value: bytes | bytearray) -> None:
    """Raises Problem, 400, for a value that isn't UTF-8."""
    if value.isascii():
        return
    try:
        value.decode()
    except UnicodeDecodeError:
        raise Problem(400, f"{name}: {short(value)} is not UTF-8") from None


def short(value: str | bytes | bytearray) -> str:
    """The beginning of a value, between quotes."""
    cut = value[: SHOWN + 1]
    text = repr(cut if isinstance(cut, str) else bytes(cut)).removeprefix("b")
    return text if len(text) <= SHOWN + 2 else f"{text[: SHOWN + 1]}…{text[0]}"
