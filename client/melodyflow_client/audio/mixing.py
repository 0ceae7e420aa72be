"""More than two channels -> stereo, by ITU-R BS.775: one rule, whatever the container."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import AudioError

Layout: TypeAlias = tuple[str, ...]  # the speaker of each channel; () where the file names none

# Speakers by FFmpeg's names, in the order of WAV's channel mask.
_OF_MASK: Layout = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR"),
    *("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR"),
)
# The order where a file names none: FLAC's (RFC 9639, section 9.1.3), which is WAV's as well.
_USUAL: dict[int, Layout] = {
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
_LOW = ("LFE", "LFE2")  # left out, as BS.775 does
_AMBISONIC = ("W", "X", "Y", "Z")  # WAV's B format, whose W is 3 dB down

_HALF_POWER = math.sqrt(0.5)
_SIDES = {"L": (1.0, 0.0), "R": (0.0, 1.0), "C": (_HALF_POWER, _HALF_POWER)}
_LEVELS = {"FL": 1.0, "FR": 1.0, "FLC": 1.0, "FRC": 1.0, "DL": 1.0, "DR": 1.0, "FC": 1.0}
_AMBISONIC_GAINS = {
    # two cardioids, to the left and to the right
    "W": (_HALF_POWER, _HALF_POWER),
    "Y": (0.5, -0.5),
    # the order and levels of AmbiX
    "AMBI0": (0.5, 0.5),
    "AMBI1": (0.5, -0.5),
}


def layout_of_mask(mask: int, channels: int) -> Layout:
    """Of WAV's channel mask; () if it doesn't fit."""
    names = tuple(name for bit, name in enumerate(_OF_MASK) if mask >> bit & 1)
    return names if len(names) == channels else ()


def of_ambisonic(channels: int) -> Layout:
    """Of WAV's B format; () for one or two channels, which are no ambisonics."""
    higher = tuple(f"AMBI{number}" for number in range(4, channels))
    return (*_AMBISONIC[:channels], *higher) if channels > 2 else ()


def usual_layout(channels: int) -> Layout:
    """FLAC's own order, for up to eight channels."""
    return _USUAL.get(channels, ())


def stereo_gains(layout: Layout, channels: int) -> npt.NDArray[np.float32]:
    """`[channels, 2]`. Raises AudioError for channels that nobody can place."""
    if layout and len(layout) == channels:
        names = layout
    elif channels in _USUAL:
        names = _USUAL[channels]
    else:
        raise AudioError(
            f"audio: {channels} channels, and the file doesn't say which is where; mix them to one "
            "or two first"
        )
    return np.array([_gains_of(name) for name in names], np.float32)


def told(layout: Layout, channels: int) -> str:
    """The mix, in words."""
    words = f"{channels} channels were mixed to stereo"
    names = layout or _USUAL[channels]
    if any(name in _LOW for name in names):
        words += ", without the low-frequency one"
    if not layout:
        words += f"; the file doesn't name them, {' '.join(names)} was assumed"
    return words


def _gains_of(name: str) -> tuple[float, float]:
    if name in _LOW:
        return 0.0, 0.0
    if name in _AMBISONIC_GAINS:
        return _AMBISONIC_GAINS[name]
    if name in _AMBISONIC or name.startswith("AMBI"):
        return 0.0, 0.0  # front and back, up and down: the same in both ears
    side = next((letter for letter in reversed(name) if letter in _SIDES), "C")
    if name in ("FLC", "FRC"):
        side = name[1]
    level = _LEVELS.get(name, _HALF_POWER)
    left, right = _SIDES[side]
    return left * level, right * level
