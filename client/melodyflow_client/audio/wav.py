"""Blocks -> a WAV that grows in one buffer."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from .blocks import Block, to_float32
from .limits import Holding, Limits

# How a sample is stored, as soundfile names it -> (format tag, bits)
SUBTYPES = {
    "PCM_16": (1, 16),
    "PCM_24": (1, 24),
    "PCM_32": (1, 32),
    "FLOAT": (3, 32),
    "DOUBLE": (3, 64),
}
_STORED = {"PCM_16": "<i2", "PCM_32": "<i4", "FLOAT": "<f4", "DOUBLE": "<f8"}
_HEADER = 58  # bytes, with the fact chunk that formats other than PCM need


class Overload(Exception):
    """Samples beyond full scale, which integers cannot hold."""


class WavWriter:
    """A WAV that is written from its beginning to its end, within limits and a budget.

    The buffer is a BytesIO: it grows in place, and getvalue() hands its bytes out without a copy.
    """

    def __init__(
        self, sample_rate: int, channels: int, subtype: str, limits: Limits, holding: Holding
    ) -> None:
        self._rate, self._channels, self._subtype = sample_rate, channels, subtype
        self._limits, self._holding = limits, holding
        self._file = io.BytesIO()
        self._append(bytes(_HEADER if SUBTYPES[subtype][0] == 3 else 44))
        self.frames = 0

    def write(self, block: Block) -> Block:
        """Appends `[frames, channels]`, and gives back what was stored, which is the same except
        where floats are rounded to integers. Raises Overload, AudioError and what the budget
        raises."""
        block = _of_depth(block, self._subtype)
        if self._subtype == "PCM_24":
            octets = np.ascontiguousarray(block, "<i4").view(np.uint8).reshape(-1, 4)
            stored: npt.NDArray[Any] = octets[:, 1:]
        else:
            stored = block.astype(_STORED[self._subtype], copy=False)
        self._append(stored.tobytes())
        self.frames += len(block)
        return block

    def finish(self) -> bytes:
        """The file. Nothing can be written afterwards."""
        size = self._file.tell()
        if size % 2:
            self._append(b"\0")
        tag, bits = SUBTYPES[self._subtype]
        align = self._channels * bits // 8
        layout = (tag, self._channels, self._rate, self._rate * align, align, bits)
        if tag == 1:
            header = struct.pack("<4sIHHIIHH", b"fmt ", 16, *layout)
        else:
            header = struct.pack("<4sIHHIIHHH", b"fmt ", 18, *layout, 0)
            header += struct.pack("<4sII", b"fact", 4, self.frames)
        header = struct.pack("<4sI4s", b"RIFF", self._file.tell() - 8, b"WAVE") + header
        header += struct.pack("<4sI", b"data", self.frames * align)
        self._file.seek(0)
        self._file.write(header)
        return self._file.getvalue()

    def _append(self, data: bytes) -> None:
        self._limits.check_bytes(self._file.tell() + len(data))
        self._holding.take(len(data))
        self._file.write(data)


def _of_depth(block: Block, subtype: str) -> Block:
    """Samples of any type as those that hold the subtype; 24 bits stand on top of an int32."""
    if SUBTYPES[subtype][0] == 3:
        return to_float32(block) if block.dtype.kind == "i" else block
    bits = SUBTYPES[subtype][1]
    if block.dtype == np.int16 and bits > 16:
        wide: Block = block.astype(np.int32) << 16
        return wide
    if block.dtype == np.int32 and bits == 16:
        block = to_float32(block)
    return _rounded(block, bits) if block.dtype.kind == "f" else block


def _rounded(block: Block, bits: int) -> Block:
    """Floats -> integers. Raises Overload."""
    if not np.max(np.abs(block), initial=0.0) <= 1.0:  # true for NaN as well
        raise Overload
    full = 2.0 ** (bits - 1)
    whole = np.clip(np.rint(block * full), -full, full - 1)
    stored: Block = whole.astype(np.int16) if bits == 16 else whole.astype(np.int32) << (32 - bits)
    return stored
