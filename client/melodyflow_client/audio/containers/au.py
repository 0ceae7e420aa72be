"""Sun's AU."""

from __future__ import annotations

import struct

from ..source import File
from . import pcm
from .sound import Check, Sound, Undecodable

_SUBTYPES = {
    1: "ULAW",
    2: "PCM_S8",
    3: "PCM_16",
    4: "PCM_24",
    5: "PCM_32",
    6: "FLOAT",
    7: "DOUBLE",
    27: "ALAW",
}


def read_header(file: File, check: Check) -> Sound:
    """Plain samples; raises Undecodable for other codings."""
    head = file.head(24)
    if len(head) < 24:
        raise Undecodable("audio: AU with a header that is cut")
    start, told, coding, rate, channels = struct.unpack(">5I", head[4:])
    subtype = _SUBTYPES.get(coding)
    if subtype is None or not channels or not rate or not 24 <= start <= file.size:
        raise Undecodable("audio: AU of this coding cannot be decoded")
    warnings: list[str] = []
    align = channels * pcm.WIDTHS[subtype]
    return pcm.sound(
        file,
        check,
        subtype=subtype,
        big_endian=True,
        sample_rate=rate,
        channels=channels,
        start=start,
        size=pcm.size_of_samples(file, start, told, align, warnings, None),
        warnings=warnings,
    )
