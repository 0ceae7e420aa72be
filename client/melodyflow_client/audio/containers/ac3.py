"""AC-3 and Enhanced AC-3 (ATSC A/52): frames. FFmpeg loses one that doesn't stand right before the
next one or at the end."""

from __future__ import annotations

import re

from .rows import Coding, Frame

_RATES = (48000, 44100, 32000)
_KILOBITS = (
    *(32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640),
)
_BLOCKS = (1, 2, 3, 6)
_ENHANCED, _LAST = 11, 16  # versions (bsid)
_KIND = (0, 0)  # enhanced frames may stand between the others and belong to them


def frame_of(head: bytes) -> Frame | None:
    """Of the six bytes of a header (A/52, 5.3 and E.1.2)."""
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return None
    version, index = head[5] >> 3, head[4] >> 6
    if version > _LAST:
        return None
    if version >= _ENHANCED:
        size = 2 * ((head[2] & 7) << 8 | head[3]) + 2
        if head[2] >> 6 == 3 or head[4] >> 4 == 15:
            return None
        if index == 3:
            return Frame(size, 1536, _RATES[head[4] >> 4 & 3] // 2, _KIND)
        return Frame(size, 256 * _BLOCKS[head[4] >> 4 & 3], _RATES[index], _KIND)
    code = head[4] & 0x3F
    if index == 3 or code // 2 >= len(_KILOBITS):
        return None
    size = 2 * (_KILOBITS[code // 2] * 96_000 // _RATES[index])
    size += 2 * (code & 1) if index == 1 else 0
    return Frame(size, 1536, _RATES[index] >> max(version - 8, 0), _KIND)


CODING = Coding(
    header=6,
    frame_of=frame_of,
    beginning=re.compile(rb"\x0b\x77|ID3"),
    least=(2, 2),
    told=lambda _: 0,
)
