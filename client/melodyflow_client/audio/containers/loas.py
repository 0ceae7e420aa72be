"""AAC in LOAS (ISO 14496-3, 1.7.2): frames."""

from __future__ import annotations

import re

from .rows import Coding, Frame


def frame_of(head: bytes) -> Frame | None:
    """Of the three bytes of a header. How many samples it has and at which rate stands inside."""
    if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return None
    return Frame(3 + ((head[1] & 0x1F) << 8 | head[2]), 0, 0, (0, 0))


CODING = Coding(
    header=3,
    frame_of=frame_of,
    beginning=re.compile(rb"\x56[\xe0-\xff]|ID3"),
    least=(3, 3),
    told=lambda _: 0,
)
