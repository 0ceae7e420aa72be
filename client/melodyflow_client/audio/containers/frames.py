"""FFmpeg's packets -> frames, past what is broken, and frames -> blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..blocks import Block, frames_of_block
from .checked import Checked

# Containers that tell each packet's time; others make it up.
_TIMED = {"mpegts", "mpeg", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv", "asf", "ogg"}
_LEAST_MISSED, _MOST_MISSED = 0.015, 3600.0  # seconds; times are rounded, and may be nonsense
_MOST_ERRORS = 16  # of a container, one after another, until it counts as at its end


def frames_of(
    file: Checked, container: Any, stream: Any, trouble: Trouble
) -> Iterator[tuple[Any, int]]:
    """The frames of a stream and their rates; what is broken is left out."""
    failed = 0
    timed = container.format.name in _TIMED
    # seconds, by the frames so far; only Ogg is known to begin at 0
    expected = 0.0 if container.format.name == "ogg" else None
    packets = container.demux(stream)
    while True:
        file.look()
        try:
            packet = next(packets, None)
        except Exception as error:  # the container, not a packet of it
            file.pass_on(error)
            trouble.gaps += 1
            failed += 1
            if failed > _MOST_ERRORS:
                return
            packets = container.demux(stream)
            continue
        if packet is None:
            return
        failed = 0
        trouble.broken += bool(packet.is_corrupt)
        try:
            frames = packet.decode()
        except Exception as error:
            file.pass_on(error)
            trouble.broken += not packet.is_corrupt and not isinstance(error, EOFError)
            continue
        for frame in frames:
            # FFmpeg's MPEG decoder labels a frame with the rate of the one before
            mpeg = stream.codec_context.name.startswith(("mp1", "mp2", "mp3"))
            rate = int(stream.codec_context.sample_rate if mpeg else frame.sample_rate)
            if timed and frame.time is not None and rate > 0:
                if expected is not None and _LEAST_MISSED < frame.time - expected < _MOST_MISSED:
                    trouble.missing += frame.time - expected
                expected = frame.time + frame.samples / rate
            yield frame, rate


class Trouble:
    """What a stream had of it."""

    def __init__(self) -> None:
        self.broken = 0  # packets
        self.gaps = 0  # in the container
        self.missing = 0.0  # seconds that its times leap over

    def told(self) -> list[str]:
        words = []
        if self.gaps:
            words.append("the file is damaged or breaks off; what could be read was taken")
        if self.broken:
            are = (
                "1 packet of sound is"
                if self.broken == 1
                else f"{self.broken} packets of sound are"
            )
            words.append(f"{are} broken and left out, or repaired where that is possible")
        if self.missing:
            words.append(f"{self.missing:.2f} s of its sound are missing")
        return words


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


def behind(skipped: int, blocks: Iterator[Block]) -> Iterator[Block]:
    """Blocks without the first frames."""
    for block in blocks:
        yield block[skipped:]
        skipped -= min(skipped, len(block))


def gathered(blocks: Iterator[Block], channels: int) -> Iterator[Block]:
    """Small blocks, joined to larger ones."""
    waiting: list[Block] = []
    frames = 0
    for block in blocks:
        if waiting and block.dtype != waiting[0].dtype:
            yield np.concatenate(waiting)
            waiting, frames = [], 0
        waiting.append(block)
        frames += len(block)
        if frames >= frames_of_block(channels):
            yield np.concatenate(waiting)
            waiting, frames = [], 0
    if waiting:
        yield np.concatenate(waiting)
