"""Arrays -> a sound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import AudioError, shown
from .blocks import Block, frames_of_block
from .containers.sound import Check, Sound

_SUBTYPES = {"int16": "PCM_16", "int32": "PCM_32", "float32": "FLOAT", "float64": "DOUBLE"}
_MOST_CHANNELS = 32


def sound_of(source: tuple[Any, ...], check: Check) -> Sound:
    """`(array, rate)` as a sound; see load(). Raises AudioError."""
    if len(source) != 2:
        raise AudioError(f"audio: must be (array, sample_rate), not a tuple of {len(source)}")
    array, rate = np.asarray(source[0]), source[1]
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not 0 < rate < 2**32:
        raise AudioError(f"audio: the rate must be a whole number of Hz, not {shown(rate)}")
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or array.size == 0:
        raise AudioError(
            f"audio: an array must be [channels, samples] or [samples] and not empty, not of "
            f"shape {list(np.shape(source[0]))}"
        )
    channels, samples = array.shape
    if channels > _MOST_CHANNELS:
        raise AudioError(
            f"audio: shape {list(array.shape)} reads as {channels} channels; an array is "
            "[channels, samples]: transpose it"
        )
    subtype = _SUBTYPES.get(array.dtype.name)
    if subtype is None:
        allowed = ", ".join(_SUBTYPES)
        raise AudioError(f"audio: an array must be of {allowed}, not {array.dtype.name}")

    def blocks() -> Iterator[Block]:
        size = frames_of_block(channels)
        for begin in range(0, samples, size):
            check()
            yield array[:, begin : begin + size].T

    return Sound(int(rate), channels, samples, subtype, sent_unchanged=False, blocks=blocks)
