"""Ogg: streams chained one after another (RFC 3533, section 4), and Vorbis, of whose last packet
FFmpeg makes more or less than libvorbis where the file is short."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from ...errors import AudioError
from ..source import File
from . import ffmpeg, libsndfile
from .chain import MOST_LINKS, chained
from .frames import first
from .sound import Check, Sound, Undecodable

_MOST_PAGES = 300_000
_HEADER = 27  # bytes of a page's
_SEARCHED = 1 << 16  # bytes at a time
_BEGINS, _ENDS, _LACING = 2, 4, 26  # flags; where the number of a page's segments stands


def read_header(file: File, check: Check) -> Sound:
    """The sound of all links, at the first one's rate and channels. Raises Undecodable."""
    links, whole = _links(file, check)
    told = [] if whole else ["the file breaks off; what comes before was taken"]
    if len(links) < 2:
        sound = _link(file, check)
        sound.warnings.extend(told)
        return sound
    sound = chained(links, _link, check)
    sound.warnings.extend(told)
    return sound


def _link(link: File, check: Check) -> Sound:
    try:
        return _vorbis(link, check)
    except Undecodable:
        return ffmpeg.read_header(link, check)


def _vorbis(file: File, check: Check) -> Sound:
    sound = libsndfile.vorbis(file, check)
    granule = -1
    for page in _pages(file):
        granule = max(granule, page.granule)
    if (sound.samples or 0) < granule:
        raise Undecodable("audio: damaged Vorbis is left to FFmpeg, which goes on behind")
    decode = sound.blocks
    sound.blocks = lambda: first(sound.samples, decode())
    return sound


def _links(file: File, check: Check) -> tuple[list[File], bool]:
    """The parts of a file that begin with pages which begin streams, and whether the last page is
    there as a whole and ends one."""
    starts = []
    beginning = False  # whether the page before began a stream
    whole = True
    for page in _pages(file):
        whole = page.end <= file.size and bool(page.flags & _ENDS)
        check()
        if page.flags & _BEGINS and not beginning:
            starts.append(page.start)
            if len(starts) > MOST_LINKS:
                raise AudioError(f"audio: more than {MOST_LINKS} chained streams; split the file")
        beginning = bool(page.flags & _BEGINS)
    parts = [file.part(start, end) for start, end in pairwise([*starts, file.size])]
    return parts, whole


class _Page(NamedTuple):
    start: int
    end: int
    flags: int
    granule: int  # the samples up to its end; -1: none ends in it


def _pages(file: File) -> Iterator[_Page]:
    """All pages; what stands between pages is skipped."""
    position = 0
    for _ in range(_MOST_PAGES):
        if position >= file.size:
            return
        page = file.head(_HEADER + 255, position)
        if page[:5] != b"OggS\0" or len(page) < _HEADER:
            found = file.head(_SEARCHED, position + 1).find(b"OggS\0")
            position += 1 + (found if found >= 0 else _SEARCHED - 4)
            continue
        segments = page[_LACING]
        end = position + _HEADER + segments + sum(page[_HEADER : _HEADER + segments])
        yield _Page(position, end, page[5], int.from_bytes(page[6:14], "little", signed=True))
        position = end
