"""MPEG audio (MP3, MP2): a row of frames, each with its own header, and whatever stands between."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from ..source import File
from .sound import Check
from .tags import tag_end

_WINDOW = 1 << 18  # bytes looked at together
_LONGEST = 4096  # bytes of a frame, and more
# A header, as far as three bytes tell, or a tag's
_BEGINNING = re.compile(
    rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][%s]|ID3"
    % b"".join(b"\\x%02x-\\x%02x" % (bits, bits + 11) for bits in range(0x10, 0xF0, 0x10))
)
_MOST_ROWS, _MOST_FAILED = 10_000, 100_000
_LEAST, _LEAST_OF_OTHERS = 3, 8  # frames of a row, of the first row's kind and of others
_CHECKED = 1000  # frames

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KILOBITS = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class Frame(NamedTuple):
    """What a frame's header says (ISO 11172-3, 2.4.2.3)."""

    size: int  # bytes
    samples: int
    rate: int
    kind: tuple[int, int]  # version and layer, which never change within a stream


class Rows(NamedTuple):
    """Where the rows of whole frames stand in a file, `(start, end)`, and what they make."""

    ranges: list[tuple[int, int]]
    samples: int
    told: int  # samples, by the header of the first frame; 0 where it doesn't say
    cut: bool  # whether the last frame isn't whole

    def between(self) -> int:
        """Bytes between the rows."""
        return sum(after[0] - row[1] for row, after in pairwise(self.ranges))


def frame_of(head: bytes) -> Frame | None:
    """Of the four bytes of a header."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3  # layer: 3 is I, 2 is II, 1 is III
    bits, index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or index == 3 or bits in (0, 15):
        return None
    rate = _RATES[version][index]
    kilobits = _KILOBITS[(3, layer) if version == 3 else (2, max(layer, 2))][bits - 1]
    padding = head[2] >> 1 & 1
    if layer == 3:
        return Frame((12000 * kilobits // rate + padding) * 4, 384, rate, (version, layer))
    samples = 576 if layer == 1 and version != 3 else 1152
    return Frame(samples // 8 * 1000 * kilobits // rate + padding, samples, rate, (version, layer))


class _Row(NamedTuple):
    end: int
    frames: int
    samples: int
    kind: tuple[int, int] | None  # of the first frame
    cut: bool  # whether one more begins that isn't whole


def rows_of(file: File, check: Check) -> Rows:
    """Rows of several frames; one alone is more likely a chance."""
    ranges: list[tuple[int, int]] = []
    samples = 0
    cut = False
    kind = None
    failed = 0
    window = _Window(file)
    position: int | None = 0
    while position is not None and len(ranges) < _MOST_ROWS:
        check()
        if failed == _MOST_FAILED:  # made to keep this busy: the rest is FFmpeg's
            ranges.append((position, file.size))
            break
        begin = tag_end(file, position)  # a picture in a tag may hold what looks like frames
        row = _row(window, begin, check)
        if row.frames >= (_LEAST if kind in (None, row.kind) else _LEAST_OF_OTHERS):
            first = frame_of(window.head(begin))
            if ranges and first and _told(file.head(first.size, begin)):
                begin += first.size  # a joined file's header, which would be silence
                row = row._replace(samples=row.samples - first.samples)
            ranges.append((begin, row.end))
            samples += row.samples
            kind, cut = kind or row.kind, row.cut
            position = window.find(row.end)
        else:
            failed += 1
            position = window.find(begin + (begin == position))
    told = _told(file.head(_LONGEST, ranges[0][0])) if ranges else 0
    return Rows(ranges, samples, told, cut)


def _row(window: _Window, position: int, check: Check) -> _Row:
    """The frames from `position` on."""
    count = samples = 0
    kind = None
    cut = False
    while frame := frame_of(window.head(position)):
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


def _told(first: bytes) -> int:
    """The samples that Xing's header announces, in the frame that it has for itself."""
    frame = frame_of(first)
    if frame is None:
        return 0
    found = re.search(rb"Xing|Info", first[: min(frame.size, 4 + 32 + 4)])
    if found is None or not first[found.start() + 7] & 1:
        return 0
    return int.from_bytes(first[found.start() + 8 : found.start() + 12], "big") * frame.samples


class _Window:
    """A file of which many small pieces are read, mostly forwards."""

    def __init__(self, file: File) -> None:
        self._file = file
        self.size = file.size
        self._start, self._data = 0, b""

    def head(self, position: int) -> bytes:
        """Four bytes."""
        begin = position - self._start
        if not 0 <= begin <= len(self._data) - 4:
            self._start, self._data, begin = position, self._file.head(_WINDOW, position), 0
        return self._data[begin : begin + 4]

    def find(self, position: int) -> int | None:
        """Where the next frame or tag may begin; None at the end."""
        while position < self.size - 4:
            self.head(position)
            found = _BEGINNING.search(self._data, position - self._start)
            if found:
                return self._start + found.start()
            position = self._start + max(len(self._data) - 2, 1)
        return None
