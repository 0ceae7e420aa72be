"""Attacks by what is sent: files, JSON, names, messages."""

from __future__ import annotations

import base64
import json
from collections.abc import Generator, Iterable

from .clients import MIB, Heard, post
from .files import encoded, m4a_with_a_large_cover, wav


def edits(files: Iterable[bytes], steps: int = 1, timeout_s: int = 20) -> list[bytes]:
    """Requests for edits of files."""
    return [
        json.dumps(
            {
                "audio": base64.b64encode(data).decode(),
                "variation": "celtic",
                "steps": steps,
                "timeout_s": timeout_s,
                "priority": 1,
            }
        ).encode()
        for data in files
    ]


def unpacked_files(url: str, address: str) -> Generator[None, float, Heard]:
    """Small files that are ten minutes of silence."""
    ogg = encoded("ogg", "libopus", 590, 48000, 2)
    wavpack = encoded("wv", "wavpack", 300, 192000, 2)
    until = yield
    return post(url, address, until, "/transform", edits([ogg] * 4 + [wavpack] * 4))


def covers(url: str, address: str) -> Generator[None, float, Heard]:
    """Short songs with cover pictures of 12,000 x 12,000 pixels."""
    body = edits([m4a_with_a_large_cover()])
    until = yield
    return post(url, address, until, "/transform", body * 4)


def slow_files(url: str, address: str) -> Generator[None, float, Heard]:
    """FLACs with eight channels at the highest rate, which take long to decode."""
    flac = encoded("flac", "flac", 60, 192000, 8)
    until = yield
    return post(url, address, until, "/transform", edits([flac] * 6))


def lists_of_lists(url: str, address: str) -> Generator[None, float, Heard]:
    body = b'{"audio": [' + b"[]," * (54 * MIB // 3) + b"[]]}"
    until = yield
    return post(url, address, until, "/transform", [body] * 3)


def long_names(url: str, address: str) -> Generator[None, float, Heard]:
    body = b'{"' + b"k" * (48 * MIB) + b'": 1}'
    until = yield
    return post(url, address, until, "/transform/stream", [body] * 3)


def no_text(url: str, address: str) -> Generator[None, float, Heard]:
    """Names, values and headers that are not UTF-8, and a session's name of 8 MB."""
    sound = base64.b64encode(wav(0.2))
    field = b'{"variation": "celtic", "session_id": "%s", "audio": "%s"}'
    bodies = [field % (name, sound) for name in (b"\xff" * (8 * 10**6), b"\xed\xa0\x80", b"a\xc3")]
    until = yield
    return post(url, address, until, "/transform", [*bodies, b'{"\xff": "\xfe"}'])


def long_edits(url: str, address: str) -> Generator[None, float, Heard]:
    """Valid edits: as many as an owner may have at once, of a minute each."""
    files = [wav(60, 200 + number, 8000) for number in range(32)]
    until = yield
    return post(url, address, until, "/transform", edits(files, steps=32, timeout_s=6))
