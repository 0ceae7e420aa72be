"""Tags and junk around a container, which are no part of it."""

from __future__ import annotations

import re

from ..source import File

# The beginnings of containers, strict enough to be looked for in junk
_BEGINNINGS = (
    rb"(?:RIFF|RF64|BW64|RIFX)....(?:WAVE|AVI )",
    rb"fLaC\0\0\0\x22",
    rb"FORM....AIF[FC]",
    rb"caff\0\x01\0\0",
    rb"riff\x2e\x91\xcf\x11",
    rb"\.snd\0\0......\0\0\0[\x01-\x1b]\0[\0-\x0b]..\0\0\0[\x01-\x20]",
    rb"OggS\0\x02\0{8}",
    rb"\0\0\0[\x08-\x40]ftyp[ -~]{4}",
    rb"\x1aE\xdf\xa3.{1,8}?B[\x82\x86]",
    rb"wvpk....[\x02-\x10]\x04",
    rb"TTA1[\x01-\x03]\0",
    rb"FLV\x01[\x01\x04\x05]\0\0\0\t",
    rb"Creative Voice File\x1a",
    rb"NIST_1A\n",
    rb"G(?:.{187}G){4}",  # MPEG-TS, whose packets have 188 bytes
)
_BEGINNING = re.compile(b"|".join(_BEGINNINGS), re.DOTALL)
_SEARCHED = 1 << 16  # bytes
_MOST_TAGS = 100
_VERSIONS = (2, 3, 4)  # of ID3v2
# Containers that may hold such a beginning inside
_OTHERS = re.compile(
    rb"OggS|\x1aE\xdf\xa3|....(?:ftyp|moov|mdat|free|skip|wide)|wvpk|TTA1|FLV|ID3|\xff[\xe0-\xff]"
    rb"|G.{187}G.{187}G",
    re.DOTALL,
)


def start_of(file: File) -> int:
    """Where the container begins: after ID3v2 tags, which programs put before any kind of file."""
    start = 0
    for _ in range(_MOST_TAGS):
        end = tag_end(file, start)
        if end == start:
            break
        start = end
    return start


def tag_end(file: File, start: int) -> int:
    """Where the ID3v2 tag ends that begins at `start`; `start` where none does."""
    head = file.head(10, start)
    if head[:3] != b"ID3" or len(head) < 10 or head[3] not in _VERSIONS or head[4] == 0xFF:
        return start
    size = 0
    for byte in head[6:10]:  # 7 bits each
        size = size << 7 | byte & 0x7F
    end = start + 10 + size + (10 if head[5] & 0x10 else 0)  # with a footer
    return end if end < file.size else start + 10  # a size that makes no sense


def search(file: File, start: int) -> int | None:
    """Where a container begins that stands behind junk."""
    head = file.head(_SEARCHED, start)
    found = None if _OTHERS.match(head) else _BEGINNING.search(head)
    return None if found is None else start + found.start()


def end_of(file: File, start: int) -> int:
    """Where what is no ID3v1, APE or Lyrics3 tag ends, for samples whose size is not told."""
    end = file.size
    for _ in range(_MOST_TAGS):
        before = end
        if end - start >= 128 and file.head(3, end - 128) == b"TAG":
            end -= 128
        lyrics = file.head(15, end - 15) if end - start >= 15 else b""
        if lyrics[6:] == b"LYRICS200" and lyrics[:6].isdigit():
            size = int(lyrics[:6]) + 15
            if file.head(11, end - size) == b"LYRICSBEGIN":
                end -= size
        footer = file.head(32, end - 32) if end - start >= 32 else b""
        if footer[:8] == b"APETAGEX":
            size = int.from_bytes(footer[12:16], "little")
            size += 32 if footer[23] & 0x80 else 0  # it has a header as well
            if 32 <= size <= end - start:
                end -= size
        if end == before:
            break
    return end
