"""Tags and junk around a container, which are no part of it."""

from __future__ import annotations

import re

from ..source import File

# The beginnings of the containers of READERS, strict enough to be looked for in junk
_BEGINNING = re.compile(
    rb"(?:RIFF|RF64|BW64)....WAVE|fLaC\0\0\0\x22|FORM....AIF[FC]|caff\0\x01\0\0|riff\x2e\x91\xcf\x11",
    re.DOTALL,
)
_SEARCHED = 1 << 16  # bytes
# Containers that may hold such a beginning inside
_OTHERS = re.compile(rb"OggS|\x1aE\xdf\xa3|....ftyp", re.DOTALL)


def start_of(file: File) -> int:
    """Where the container begins: after ID3v2 tags, which programs put before any kind of file."""
    start = 0
    while (head := file.head(10, start))[:3] == b"ID3" and len(head) == 10:
        size = 0
        for byte in head[6:10]:  # 7 bits each
            size = size << 7 | byte & 0x7F
        footer = 10 if head[5] & 0x10 else 0
        start += 10 + size + footer
    return start


def search(file: File, start: int) -> int | None:
    """Where a container begins that stands behind junk."""
    head = file.head(_SEARCHED, start)
    found = None if _OTHERS.match(head) else _BEGINNING.search(head)
    return None if found is None else start + found.start()


def end_of(file: File, start: int) -> int:
    """Where what is neither an ID3v1 nor an APE tag ends, for samples whose size is not told."""
    end = file.size
    while True:
        before = end
        if end - start >= 128 and file.head(3, end - 128) == b"TAG":
            end -= 128
        footer = file.head(32, end - 32) if end - start >= 32 else b""
        if footer[:8] == b"APETAGEX":
            size = int.from_bytes(footer[12:16], "little")
            size += 32 if footer[23] & 0x80 else 0  # it has a header as well
            if 32 <= size <= end - start:
                end -= size
        if end == before:
            return end
