"""MPEG audio (MP3, MP2): frames, and the header that encoders put into the first one."""

from __future__ import annotations

import re

from .rows import Coding, Frame

# A header, as far as three bytes tell, or a tag's
_BEGINNING = re.compile(
    rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][%s]|ID3"
    % b"".join(b"\\x%02x-\\x%02x" % (bits, bits + 11) for bits in range(0x10, 0xF0, 0x10))
)

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KILOBITS = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def frame_of(head: bytes) -> Frame | None:
    """Of the four bytes of a header (ISO 11172-3, 2.4.2.3)."""
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


def _told(first: bytes) -> int:
    """The samples that Xing's header announces, in the frame that it has for itself."""
    frame = frame_of(first)
    if frame is None:
        return 0
    found = re.search(rb"Xing|Info", first[: min(frame.size, 4 + 32 + 4)])
    if found is None or not first[found.start() + 7] & 1:
        return 0
    return int.from_bytes(first[found.start() + 8 : found.start() + 12], "big") * frame.samples


CODING = Coding(
    header=4,
    frame_of=frame_of,
    beginning=_BEGINNING,
    least=(3, 8),  # one alone is more likely a chance
    told=_told,
)
