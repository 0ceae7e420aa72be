"""Events whose data is JSON in a string, as Swift's Socket.IO sends them: now and then it was
escaped once more than needed, so that backslashes are left over."""

from __future__ import annotations

import json
import re
from typing import Any

from ..problems import Problem
from ..wire.lifting import MOST_OTHER_BYTES, PLACEHOLDER, lift, string_end

# An event's name, and the beginning of a string that holds an object.
_BEGIN = re.compile(
    rb'\s*\[\s*("(?:[^"\\]|\\.){0,200}")\s*,\s*"(?=(?:\s|\\{1,9}[nrt]){0,200}\\{0,9}\{)'
)
_END = re.compile(rb'"\s*\]\s*')
_QUOTE = re.compile(rb'\\{1,9}"')


def is_quoted(text: bytes | bytearray, start: int) -> bool:
    """Whether the JSON that begins at `start` looks like such an event."""
    return _BEGIN.match(text, start) is not None


def quoted_event(text: bytes | bytearray, audio: str, start: int = 0) -> list[Any] | None:
    """An event's name and the object in its string, whose `audio` stays base64, as a memoryview;
    None where its data is anything else. Its JSON begins at `start`. Raises Problem for more than
    an event may hold."""
    begin = _BEGIN.match(text, start)
    end = None if begin is None else string_end(text, begin.end())
    if begin is None or end is None or not _END.fullmatch(text, end):
        return None
    start, name = begin.end(), json.loads(begin[1])
    found = _audio(text, start, end, audio)
    if found is None:
        return [name, _object(_rest(text[start : min(end, start + MOST_OTHER_BYTES + 1)]), audio)]
    rest = text[start : found[0]] + PLACEHOLDER + text[found[1] : end]
    data = _object(_rest(rest), audio)
    if isinstance(data, dict) and isinstance(data.get(audio), memoryview):
        data[audio] = _base64(text, *found)
    return [name, data]


def _audio(text: bytes | bytearray, start: int, end: int, name: str) -> tuple[int, int] | None:
    """Where the characters of the string called `name` begin and end."""
    quote = _QUOTE.search(text, start, min(end, start + MOST_OTHER_BYTES))
    if quote is None:
        return None
    mark = re.escape(quote[0])  # as many backslashes before each
    key = re.compile(rb"(?<!\\)%b%b%b\s*:\s*%b" % (mark, name.encode(), mark, mark))
    found = key.search(text, start, min(end, start + MOST_OTHER_BYTES))
    if found is None:
        return None
    close = text.find(quote[0], found.end(), end)
    return None if close < 0 else (found.end(), close)


def _rest(text: bytes | bytearray) -> str:
    if len(text) > MOST_OTHER_BYTES:
        raise Problem(413, f"body: more than {MOST_OTHER_BYTES} bytes beside the audio")
    unquoted: str = json.JSONDecoder(strict=False).decode(f'"{text.decode()}"')
    return unquoted


def _object(text: str, audio: str) -> Any:
    """The object in a text, its `audio` as a memoryview; or the text where there is none."""
    for attempt in (text, _unescaped(text), text.replace("\\", "")):
        if attempt is not None:
            try:
                lifted = lift(attempt.encode(), audio)
                value = json.loads(lifted.rest)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                if lifted.audio is not None:
                    value[audio] = lifted.audio
                return value
    return text


def _unescaped(text: str) -> str | None:
    """The same, with its escapes undone; None where it isn't escaped throughout."""
    try:
        value = json.JSONDecoder(strict=False).decode(f'"{text}"')
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def _base64(text: bytes | bytearray, start: int, end: int) -> memoryview:
    """Base64 with no more escapes than JSON has: `/` may come with several backslashes."""
    if text.find(b"\\", start, end) < 0:
        return memoryview(text)[start:end]
    plain = text[start:end]
    while b"\\/" in plain:
        plain = plain.replace(b"\\/", b"/")
    while b"\\\\" in plain:
        plain = plain.replace(b"\\\\", b"\\")
    return memoryview(plain)
