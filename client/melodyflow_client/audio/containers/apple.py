"""Apple's channel layouts, of CAF (`chan`) and AIFF-C (`CHAN`)."""

from __future__ import annotations

import struct

from ..mixing import Layout, layout_of_mask

MOST = 12 + 20 * 32  # bytes of a layout that are looked at
_DESCRIPTIONS, _BITMAP = 0, 0x10000
_LABELS = {
    **dict(enumerate(("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR"), 1)),
    **dict(enumerate(("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR"), 12)),
    33: "BL",
    34: "BR",
    35: "WL",
    36: "WR",
    37: "LFE2",
    38: "DL",
    39: "DR",
    42: "FC",
    200: "W",
    201: "X",
    202: "Y",
    203: "Z",
}
# The tag without its number of channels -> the speakers
_TAGS = {
    108: "FL FR BL BR",
    109: "FL FR BL BR FC",
    110: "FL FR BL BR FC BC",
    111: "FL FR BL BR FC BC SL SR",
    113: "FL FR FC",
    114: "FC FL FR",
    115: "FL FR FC BC",
    116: "FC FL FR BC",
    117: "FL FR FC BL BR",
    118: "FL FR BL BR FC",
    119: "FL FC FR BL BR",
    120: "FC FL FR BL BR",
    121: "FL FR FC LFE BL BR",
    122: "FL FR BL BR FC LFE",
    123: "FL FC FR BL BR LFE",
    124: "FC FL FR BL BR LFE",
    125: "FL FR FC LFE BL BR BC",
    126: "FL FR FC LFE BL BR FLC FRC",
    127: "FC FLC FRC FL FR BL BR LFE",
    128: "FL FR FC LFE SL SR BL BR",
}


def layout(chunk: bytes, channels: int) -> Layout:
    """The speakers of a layout's bytes; () where it names none or doesn't fit."""
    if len(chunk) < 12:
        return ()
    tag, bitmap, count = struct.unpack_from(">III", chunk)
    if tag == _BITMAP:
        return layout_of_mask(bitmap, channels)
    if tag == _DESCRIPTIONS:
        count = min(count, (len(chunk) - 12) // 20)
        labels = [struct.unpack_from(">I", chunk, 12 + 20 * number)[0] for number in range(count)]
        names = tuple(_LABELS.get(label, "") for label in labels)
    else:
        names = tuple(_TAGS.get(tag >> 16, "").split())
    return names if len(names) == channels and all(names) else ()
