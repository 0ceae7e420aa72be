"""The channels of FFmpeg's tracks and frames, past two mistakes of PyAV (18.1).

It frees the list of a layout with an order of its own twice, once for each object that holds it,
and it looks for the planes of a frame until one is missing, beyond the last of eight.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..blocks import Block
from ..mixing import Layout

_OWN_ORDER = re.compile(r"\d+ channels \(")
_PACKED = {"u8", "s16", "s32", "flt", "dbl"}

_kept: list[Any] = []  # layouts that must never be freed; one for each file that had such frames


def of_track(context: Any) -> tuple[int, Layout]:
    """A track's number of channels and their speakers; `()` where nothing names them.

    To be called once for each, before it is decoded: a layout with an order of its own is replaced
    by its number of channels, so that the only one to free its list is the object read here.
    """
    layout = context.layout
    names = _names(layout)
    if _OWN_ORDER.match(layout.name):
        context.layout = f"{len(names)} channels"
    return len(names), () if "NONE" in names else names


def of_frame(frame: Any, track: Layout) -> Layout:
    """The same of a frame. Raises ValueError for an order of its own that its track hasn't told."""
    layout = frame.layout
    if _OWN_ORDER.match(layout.name):
        _kept.append(layout)
        raise ValueError(f"a layout of {layout.name}")
    names = _names(layout)
    if "NONE" not in names:
        return names
    return track if len(names) == len(track) else ()


def _names(layout: Any) -> Layout:
    return tuple(channel.name for channel in layout.channels)


class Packer:
    """Frames -> arrays."""

    def __init__(self, av: Any) -> None:
        self._av = av
        self._source: tuple[object, ...] = ()
        self._resampler: Any = None

    def block(self, frame: Any) -> Block:
        """`[frames, channels]`, full scale as in blocks.py."""
        kind, channels = frame.format.name.removesuffix("p"), len(frame.layout.channels)
        if channels > 2 or kind not in _PACKED:
            kind = kind if kind in _PACKED else "dbl"
            source = frame.format.name, frame.layout.name, frame.sample_rate
            if source != self._source:
                self._source = source
                self._resampler = self._av.AudioResampler(kind, frame.layout, frame.sample_rate)
            [frame] = self._resampler.resample(frame)
        array = frame.to_ndarray()
        block: Block = array.T if frame.format.is_planar else array.reshape(-1, channels)
        if block.dtype == np.uint8:
            block = (block.astype(np.int16) - 128) << 8
        return block
