"""AIFF and AIFF-C: big-endian chunks."""

from __future__ import annotations

import math

from ..source import File
from . import apple, pcm
from .sound import Check, Sound, Undecodable

_MOST_CHUNKS = 1000
_INTEGERS = {1: "PCM_S8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}
# Of AIFF-C: how the samples are coded, but for integers, and whether they are big-endian.
_CODINGS = {
    b"raw ": ("PCM_U8", True),
    b"fl32": ("FLOAT", True),
    b"fl64": ("DOUBLE", True),
    b"ulaw": ("ULAW", True),
    b"alaw": ("ALAW", True),
}
_INTEGER_CODINGS = {b"none": True, b"twos": True, b"in24": True, b"in32": True, b"sowt": False}


def read_header(file: File, check: Check) -> Sound:
    """Plain samples; raises Undecodable for other codings."""
    kind = file.head(4, 8)
    if kind not in (b"AIFF", b"AIFC"):
        raise Undecodable("audio: is an IFF file, but no AIFF")
    common = samples = None
    layout = b""
    position = 12
    for _ in range(_MOST_CHUNKS):
        header = file.head(8, position)
        if len(header) < 8 or (common and samples):
            break
        name, size = header[:4], int.from_bytes(header[4:], "big")
        position += 8
        if name == b"COMM" and common is None:
            common = file.head(min(size, 22), position)
        elif name == b"SSND" and samples is None:
            offset = int.from_bytes(file.head(4, position), "big")
            samples = position + 8 + offset, max(size - 8 - offset, 0)
        elif name == b"CHAN":
            layout = file.head(min(size, apple.MOST), position)
        position += size + size % 2
    if common is None or len(common) < 18 or samples is None or samples[0] > file.size:
        raise Undecodable("audio: AIFF without samples; is the file complete?")
    channels, frames = int.from_bytes(common[:2], "big"), int.from_bytes(common[2:6], "big")
    bits, rate = int.from_bytes(common[6:8], "big"), _extended(common[8:18])
    coding = common[18:22].lower() if kind == b"AIFC" else b"none"
    if coding in _INTEGER_CODINGS:
        subtype, big_endian = _INTEGERS.get(-(-bits // 8)), _INTEGER_CODINGS[coding]
    else:
        subtype, big_endian = _CODINGS.get(coding, (None, True))
    if subtype is None or not channels or not rate:
        raise Undecodable("audio: AIFF of this coding cannot be decoded")
    start, told = samples
    align = channels * pcm.WIDTHS[subtype]
    there = file.size - start
    if not told < there and 0 < frames * align <= there:  # the other place where the length stands
        told = frames * align
    warnings: list[str] = []
    if told > there and 0 < told < frames * align:
        told = frames * align
    return pcm.sound(
        file,
        check,
        subtype=subtype,
        big_endian=big_endian,
        sample_rate=rate,
        channels=channels,
        start=start,
        size=pcm.size_of_samples(file, start, told, align, warnings, "big"),
        warnings=warnings,
        layout=apple.layout(layout, channels),
    )


def _extended(octets: bytes) -> int:
    """A rate as a floating point number of 80 bits, in whole Hz."""
    exponent = int.from_bytes(octets[:2], "big") - 16383 - 63
    if not -63 <= exponent <= -32:  # 1 Hz to 4 GHz
        return 0
    return round(math.ldexp(int.from_bytes(octets[2:], "big"), exponent))
