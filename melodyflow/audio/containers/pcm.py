"""Integer samples, one block at a time: shared by WAV and FLAC."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from melodyflow.audio.waveform import Waveform

BLOCK = 1 << 16  # sample frames at a time


def blocks(waveform: Waveform) -> Iterator[Waveform]:
    """The samples `[channels, <= BLOCK]`, one block at a time: converting all at once would take
    several times their memory."""
    for begin in range(0, waveform.shape[1], BLOCK):
        yield waveform[:, begin : begin + BLOCK]


def integers(waveform: Waveform, bits: int) -> npt.NDArray[np.int32]:
    """float -> int32 `[samples, channels]`, the inverse of x / 2**(bits-1), clipped."""
    full = np.float32(2.0 ** (bits - 1))
    values: Waveform = np.rint(waveform.T.astype(np.float32, copy=False) * full)
    np.clip(values, -full, full - 1, out=values)
    return values.astype(np.int32, order="C")


def octets(values: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """`[values, 4]`, least significant byte first."""
    return np.ascontiguousarray(values, "<i4").view(np.uint8).reshape(-1, 4)
