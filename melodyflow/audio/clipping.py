"""Scales down audio that an integer format would clip."""

import math

import numpy as np

from melodyflow.audio.waveform import Waveform, peak
from melodyflow.audio.writing import BITS, check_format


def prevent_clipping(waveform: Waveform, format: str) -> float:
    """Scales a waveform in place if `format` would clip it. Returns the gain in dB, 0.0 if
    untouched.

    If the peak exceeds 1.0, the whole waveform is scaled so that its largest sample becomes the
    format's largest value. `wav32f` is never touched. Raises ValueError for NaN and infinity.
    """
    check_format(format, 0)
    largest = peak(waveform)
    if not math.isfinite(largest):
        raise ValueError(f"waveform: the peak is {largest}; must be finite")
    if format == "wav32f" or largest <= 1.0:
        return 0.0
    full = 2.0 ** (BITS[format] - 1)
    gain = (full - 1) / full / largest
    # float64: rounding the gain to float32 would miss the largest 24-bit value
    np.multiply(waveform, gain, out=waveform, dtype=np.float64, casting="same_kind")
    return 20 * math.log10(gain)
