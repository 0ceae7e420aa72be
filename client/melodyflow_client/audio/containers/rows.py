"""A row of frames, each with its own header (MP3, AC-3), and whatever stands between rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from ..source import File
from .sound import Check
from .tags import tag_end

_WINDOW = 1 << 18  # bytes looked at together
_LONGEST = 4096  # bytes of a frame, and more
_MOST_ROWS, _MOST_FAILED = 10_000, 100_000
_CHECKED = 1000  # frames


class Frame(NamedTuple):
    """What a frame's header says."""

    size: int  # bytes
    samples: int
    rate: int
    kind: tuple[int, int]  # never changes within a stream


class Coding(NamedTuple):
    """How frames are found."""

    header: int  # bytes
    frame_of: Callable[[bytes], Frame | None]  # of a header
    beginning: re.Pattern[bytes]  # of a header, or of a tag
    least: tuple[int, int]  # frames of a row, of the first row's kind and of others
    told: Callable[[bytes], int]  # samples, by the first frame; 0 where it doesn't say


class Rows(NamedTuple):
    """Where the rows of whole frames stand in a file, `(start, end)`, and what they make."""

    ranges: list[tuple[int, int]]
    samples: int
    told: int  # samples, by the header of the first frame; 0 where it doesn't say
    cut: bool  # whether the last frame isn't whole

    def between(self) -> int:
        """Bytes between the rows."""
        return sum(after[0] - row[1] for row, after in pairwise(self.ranges))


class _Row(NamedTuple):
    end: int
    frames: int
    samples: int
    kind: tuple[int, int] | None  # of the first frame
    cut: bool  # whether one more begins that isn't whole


def rows_of(file: File, coding: Coding, check: Check) -> Rows:
    """Rows of several frames; one alone is more likely a chance."""
    ranges: list[tuple[int, int]] = []
    samples = 0
    cut = False
    kind = None
    failed = 0
    window = _Window(file, coding)
    position: int | None = 0
    while position is not None and len(ranges) < _MOST_ROWS:
        check()
        if failed == _MOST_FAILED:  # made to keep this busy: the rest is FFmpeg's
            ranges.append((position, file.size))
            break
        begin = tag_end(file, position)  # a picture in a tag may hold what looks like frames
        row = _row(window, begin, coding, check)
        if row.frames >= coding.least[kind not in (None, row.kind)]:
            first = coding.frame_of(window.head(begin))
            if ranges and first and coding.told(file.head(first.size, begin)):
                begin += first.size  # a joined file's header, which would be silence
                row = row._replace(samples=row.samples - first.samples)
            ranges.append((begin, row.end))
            samples += row.samples
            kind, cut = kind or row.kind, row.cut
            position = window.find(row.end)
        else:
            failed += 1
            position = window.find(begin + (begin == position))
    told = coding.told(file.head(_LONGEST, ranges[0][0])) if ranges else 0
    return Rows(ranges, samples, told, cut)


def _row(window: _Window, position: int, coding: Coding, check: Check) -> _Row:
    """The frames from `position` on."""
    count = samples = 0
    kind = None
    cut = False
    while frame := coding.frame_of(window.head(position)):
        kind = kind or frame.kind
        cut = position + frame.size > window.size
        if cut or frame.kind != kind:
            break
        position += frame.size
        count += 1
        samples += frame.samples
        if count % _CHECKED == 0:
            check()
    return _Row(position, count, samples, kind, cut)


class _Window:
    """A file of which many small pieces are read, mostly forwards."""

    def __init__(self, file: File, coding: Coding) -> None:
        self._file, self._coding = file, coding
        self.size = file.size
        self._start, self._data = 0, b""

    def head(self, position: int) -> bytes:
        """As many bytes as a header has."""
        begin = position - self._start
        if not 0 <= begin <= len(self._data) - self._coding.header:
            self._start, self._data, begin = position, self._file.head(_WINDOW, position), 0
        return self._data[begin : begin + self._coding.header]

    def find(self, position: int) -> int | None:
        """Where the next frame or tag may begin; None at the end."""
        while position < self.size - self._coding.header:
            self.head(position)
            found = self._coding.beginning.search(self._data, position - self._start)
            if found:
                return self._start + found.start()
            position = self._start + max(len(self._data) - 2, 1)
        return None
