"""Blocks of any rates and channels -> those of the first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..blocks import Block, frames_of_block, to_float32
from ..mixing import Layout, stereo_gains
from . import pyav

_MOST_APART = 64  # times as high may a rate become, or as low
_MOST_TOLD = 8  # changes
_HALF = np.float32(0.5)


class Converter:
    """Brings what a sound changes to on its way to one rate and to one or two channels."""

    def __init__(self, channels: int, rate: int) -> None:
        self._channels, self._rate = channels, rate
        self._source: tuple[int, Layout, int] | None = None
        self._resampler: Any = None
        self.changes: list[str] = []

    def convert(self, block: Block, layout: Layout, rate: int) -> Iterator[Block]:
        """`[frames, channels]` of `rate` Hz. Raises ValueError for a rate that makes no sense, and
        AudioError for channels that nobody can place."""
        if not self._rate / _MOST_APART <= rate <= self._rate * _MOST_APART:
            raise ValueError(f"a rate of {rate} Hz")
        source = block.shape[1], layout, rate
        if source != self._source:
            yield from self.rest()
            if self._source is not None and (source[0], rate) != (self._source[0], self._source[2]):
                self._tell(source[0], rate)
            self._source = source
        block = self._placed(block, layout)
        if rate == self._rate:
            yield block
        else:
            yield from self._resampled(to_float32(block), rate)

    def rest(self) -> Iterator[Block]:
        """What the resampler still holds."""
        if self._resampler is not None:
            resampler, self._resampler = self._resampler, None
            for made in resampler.resample(None):
                yield made.to_ndarray().reshape(-1, self._channels)

    def _placed(self, block: Block, layout: Layout) -> Block:
        """On one or two channels, as asked for."""
        there = block.shape[1]
        if there > 2:
            block, there = to_float32(block) @ stereo_gains(layout, there), 2
        if there == self._channels:
            return block
        if there == 1:
            return np.repeat(block, 2, axis=1)
        halves: Block = to_float32(block).sum(axis=1, keepdims=True) * _HALF
        return halves

    def _resampled(self, block: Block, rate: int) -> Iterator[Block]:
        """In pieces, so that what comes out is no larger than a block."""
        av = pyav.imported()
        layout = "mono" if self._channels == 1 else "stereo"
        if self._resampler is None:
            self._resampler = av.AudioResampler("flt", layout, self._rate)
        size = max(frames_of_block(self._channels) * rate // self._rate, 1)
        for begin in range(0, len(block), size):
            piece = np.ascontiguousarray(block[begin : begin + size]).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(piece, "flt", layout)
            frame.sample_rate = rate
            for made in self._resampler.resample(frame):
                yield made.to_ndarray().reshape(-1, self._channels)

    def _tell(self, channels: int, rate: int) -> None:
        there = "1 channel" if channels == 1 else f"{channels} channels"
        here = "mono" if self._channels == 1 else "stereo"
        words = (
            f"the sound changes to {rate} Hz and {there} on its way; all of it was brought to "
            f"{self._rate} Hz, {here}"
        )
        if words not in self.changes and len(self.changes) < _MOST_TOLD:
            self.changes.append(words)
