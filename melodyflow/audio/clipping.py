"""Scaling down what an integer format would clip."""

import math

import numpy as np

from melodyflow.audio.waveform import Waveform, peak
from melodyflow.audio.writing import BITS, check_format


def prevent_clipping(waveform: Waveform, format: str) -> float:
    """Scale, in place, what an integer format would clip: the gain in dB, 0.0 where untouched.

    Scaled only where the peak exceeds 1.0, as a whole, so that the largest sample becomes the
    largest value of the format. `wav32f` is never touched. ValueError for NaN and infinity.
    """
    check_format(format, 0)
    largest = peak(waveform)
    if not math.isfinite(largest):
        raise ValueError(f"waveform: its peak is {largest}; it must be finite")
    if format == "wav32f" or largest <= 1.0:
        return 0.0
    full = 2.0 ** (BITS[format] - 1)
    gain = (full - 1) / full / largest
    # in float64: a float32 gain's rounding would miss the largest 24-bit value
    np.multiply(waveform, gain, out=waveform, dtype=np.float64, casting="same_kind")
    return 20 * math.log10(gain)
