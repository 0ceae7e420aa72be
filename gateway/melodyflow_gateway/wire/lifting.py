"""The audio string taken out of a JSON text, before anything is built of the rest.

A body of tens of megabytes is audio in base64 but for a few fields. What is not audio is counted
while it is looked at, and given up as soon as it is too much or too deep: only then is it parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..problems import Problem

MOST_OTHER_BYTES = 2**16  # of a body beside its audio
MOST_DEPTH = 16  # of objects and lists within each other
_MOST_DIGITS = 40  # of a number: more than any number that means something
_LONGEST_ESCAPE = 2**12  # backslashes in a row, beyond any encoder's

_STRING_OR_BRACKET = re.compile(rb'["\[\]{}]')
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (_MOST_DIGITS + 1))
_LOOKED_AT = 64  # bytes before and in a string, to know what it is
PLACEHOLDER = b"-"
_NAMES = (b"audio", b"audio_data")  # of audio on any route; what a route doesn't know is dropped
_WHITE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Lifted:
    """rest: the JSON with PLACEHOLDER in the audio's place. audio: what stood between the quotes,
    as it was; None: no such string, or a blank one, which is left in."""

    rest: bytes
    audio: memoryview | None


def lift(text: bytes | bytearray, name: str, start: int = 0, *, whole: bool = True) -> Lifted:
    """Takes the string called `name`, and others that are audio by their name, out of the JSON text
    that begins at `start` (UTF-8; a byte order mark is skipped).

    Whether the rest is JSON is for its parser to say. whole: False where only the beginning of the
    text is here, of which audio may be the last. Raises Problem: 413 for too much beside the audio,
    400 for what is too deep, too long a number, or audio given twice.
    """
    keys = {name.encode(), *_NAMES}
    at = start + (len(_BOM) if text.startswith(_BOM, start) else 0)
    kept: list[bytes] = []
    kept_bytes = depth = 0
    begun = at
    lifted: dict[bytes, memoryview] = {}
    last = b""
    while True:
        # Never looks further than what may be kept: the rest of a body may be anything.
        end = begun + MOST_OTHER_BYTES - kept_bytes + 1
        found = _STRING_OR_BRACKET.search(text, at, end)
        gap_end = end if found is None else found.start()
        if _LONG_NUMBER.search(text, at, gap_end):
            raise Problem(400, f"body: a number of more than {_MOST_DIGITS} digits")
        if found is None:
            if len(text) >= end:
                raise _too_much(name)
            break
        at = found.end()
        sign = found.group()
        if sign in b"[{":
            depth += 1
            if depth > MOST_DEPTH:
                raise Problem(400, f"body: nested too deeply; at most {MOST_DEPTH} levels")
        elif sign in b"]}":
            depth -= 1
        else:
            close = string_end(text, at)
            value_of_ours = last in keys and _is_value(text, begun, at - 1)
            if close is None and value_of_ours and not whole:
                break
            if close is None:  # the parser says what is wrong with it, if it is short enough
                if len(text) >= end:
                    raise _too_much(name)
                break
            blank = not text[at : min(close, at + _LOOKED_AT)].strip(_WHITE)
            if value_of_ours and not blank:
                if last in lifted:
                    raise Problem(400, f"{last.decode()}: given twice")
                lifted[last] = memoryview(text)[at:close]
                kept += bytes(text[begun:at]), PLACEHOLDER
                kept_bytes += at - begun + len(PLACEHOLDER)
                begun = close
            elif close - begun + kept_bytes > MOST_OTHER_BYTES:
                raise _too_much(name)
            else:
                last = bytes(text[at:close])
                at = close + 1
                continue
            at = close + 1
        last = b""
    kept.append(bytes(text[begun:]))
    rest = b"".join(kept)
    if whole and len(rest) > MOST_OTHER_BYTES:
        raise _too_much(name)
    return Lifted(rest, lifted.get(name.encode()))


def _is_value(text: bytes | bytearray, begun: int, quote: int) -> bool:
    """Whether the string that begins at `quote` is what a key before it stands for."""
    before = bytes(text[max(begun, quote - _LOOKED_AT) : quote]).rstrip(_WHITE)
    return before.endswith(b":")


def string_end(text: bytes | bytearray, at: int) -> int | None:
    """Where the quote is that ends the string whose characters begin at `at`."""
    start, escaped = at, 0
    while True:
        end = text.find(b'"', at)
        if end < 0:
            return None
        run = bytes(text[max(start, end - _LONGEST_ESCAPE) : end])
        backslashes = len(run) - len(run.rstrip(b"\\"))
        if backslashes == _LONGEST_ESCAPE:
            raise Problem(400, f"body: more than {_LONGEST_ESCAPE - 1} backslashes in a row")
        if backslashes % 2 == 0:
            return end
        at = end + 1
        escaped += 1
        if escaped > MOST_OTHER_BYTES:
            raise Problem(400, f"body: a string with more than {MOST_OTHER_BYTES} escaped quotes")


def _too_much(name: str) -> Problem:
    return Problem(413, f"body: more than {MOST_OTHER_BYTES} bytes beside {name!r}")
