"""Blocks of samples, `[frames, channels]`: int16, int32, float32 or float64."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Block: TypeAlias = npt.NDArray[Any]

_SAMPLES = 1 << 17  # of a block, all channels together

_FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31}


def frames_of_block(channels: int) -> int:
    """How many frames a block has at most, so that many channels don't make it large."""
    return max(_SAMPLES // channels, 1)


def to_float32(block: Block) -> npt.NDArray[np.float32]:
    """Full scale at 1.0; integers are divided by a power of two, which is exact."""
    samples = block.astype(np.float32)
    scale = _FULL_SCALE.get(block.dtype.name)
    return samples if scale is None else samples * np.float32(1 / scale)
