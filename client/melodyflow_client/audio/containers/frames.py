"""FFmpeg's packets -> blocks of one format, past what is broken or changes on its way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..blocks import Block, frames_of_block
from .sound import Check, Undecodable


def decoded(
    av: Any, packets: Iterator[Any], converter: Converter, check: Check, warnings: list[str]
) -> Iterator[Block]:
    """Blocks as the decoder makes them; what is broken is left out, and told."""
    broken = good = 0
    cut = False
    while True:
        check()
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # the container, not a packet of it
            packet, cut = None, True
        try:
            frames = [] if packet is None else packet.decode()
            blocks = [block for frame in frames for block in converter.convert(frame)]
        except av.error.EOFError:
            blocks = []
        except av.error.FFmpegError:
            broken += 1
            continue
        good += len(blocks)
        yield from blocks
        if packet is None:
            break
    try:
        yield from converter.rest()
    except av.error.FFmpegError:
        broken += 1
    if not good:
        raise Undecodable("audio: is no sound that can be decoded")
    if cut:
        warnings.append("the file breaks off; what comes before was taken")
    if broken:
        warnings.append(f"{broken} broken packets were left out")
    warnings.extend(converter.warnings)


class Converter:
    """Frames -> blocks of one format, whatever the stream changes to on its way."""

    def __init__(self, av: Any, sample_format: str, channels: int, rate: int) -> None:
        self._av, self._channels, self._rate = av, channels, rate
        self._target = {
            "format": sample_format,
            "layout": "mono" if channels == 1 else "stereo",
            "rate": rate,
        }
        self._source: tuple[object, ...] | None = None
        self._resampler: Any = None
        self.warnings: list[str] = []

    def convert(self, frame: Any) -> Iterator[Block]:
        source = frame.format.name, frame.layout.name, frame.sample_rate
        if source != self._source:
            yield from self.rest()
            if self._source is not None and source[1:] != self._source[1:]:
                self._tell(frame)
            self._source = source
            self._resampler = self._av.AudioResampler(**self._target)
        yield from self._resampled(frame)

    def rest(self) -> Iterator[Block]:
        """What the resampler still holds."""
        if self._resampler is not None:
            yield from self._resampled(None)
            self._resampler = self._source = None

    def _resampled(self, frame: Any) -> Iterator[Block]:
        try:
            resampled = self._resampler.resample(frame)
        except self._av.error.FFmpegError:
            self._resampler = self._source = None
            raise
        for block in resampled:
            yield block.to_ndarray().reshape(-1, self._channels)

    def _tell(self, frame: Any) -> None:
        warning = (
            f"the sound changes to {frame.sample_rate} Hz, {frame.layout.name}, on its way; it was "
            f"brought to {self._rate} Hz, {self._target['layout']}"
        )
        if warning not in self.warnings:
            self.warnings.append(warning)


def first(total: int | None, blocks: Iterator[Block]) -> Iterator[Block]:
    """Blocks up to `total` frames, where there is a total."""
    left = total
    for block in blocks:
        if left is not None:
            block = block[:left]
            left -= len(block)
        if len(block):
            yield block
        if left == 0:
            return


def gathered(blocks: Iterator[Block], channels: int) -> Iterator[Block]:
    """Small blocks, joined to larger ones."""
    waiting: list[Block] = []
    frames = 0
    for block in blocks:
        waiting.append(block)
        frames += len(block)
        if frames >= frames_of_block(channels):
            yield np.concatenate(waiting)
            waiting, frames = [], 0
    if waiting:
        yield np.concatenate(waiting)
