"""A hash of what a sound says, whatever its container."""

from __future__ import annotations

import hashlib

import numpy as np

from .blocks import Block, to_float32


class Digest:
    """SHA-256 of rate, channels and the samples as float32, block by block."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._hash = hashlib.sha256(f"{sample_rate} {channels} ".encode())

    def update(self, block: Block) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # the server refuses what isn't finite
            samples = to_float32(block) + np.float32(0)  # -0 and 0 are one silence
        self._hash.update(samples.astype("<f4", copy=False).tobytes())

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
