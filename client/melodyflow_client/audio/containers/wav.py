"""WAV, RF64 and BW64 (EBU 3306), with headers that are odd and sizes that were never filled in."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..source import File
from . import pcm
from .sound import Check, Sound, Undecodable

_MOST_CHUNKS = 1000  # before the samples; a file of empty ones must not keep us busy
_EXTENSIBLE = 0xFFFE
_GUID_TAILS = (
    bytes.fromhex("000000001000800000aa00389b71"),
    bytes.fromhex("00002107d3118644c8c1ca000000"),  # ambisonics
)
_FLOATS = {4: "FLOAT", 8: "DOUBLE"}
_INTEGERS = {1: "PCM_U8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}
_SENT_UNCHANGED = (b"RIFF", b"RF64")
_SENT_SUBTYPES = {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"}


class Layout(NamedTuple):
    """The fmt chunk."""

    tag: int
    channels: int
    sample_rate: int
    align: int  # bytes of a frame, as far as it can be trusted
    bits: int

    def width(self) -> int:
        """Bytes of a sample: what the frame has room for, if that is enough for the bits."""
        needed = -(-self.bits // 8)
        width, rest = divmod(self.align, self.channels)
        return width if not rest and needed <= width <= 4 else needed

    def subtype(self) -> str | None:
        """How soundfile calls it; None for codings that aren't plain samples. Samples of fewer bits
        than bytes hold stand in the highest ones."""
        if self.tag == 1:
            return _INTEGERS.get(self.width())
        if self.tag == 3:
            return _FLOATS.get(self.bits // 8)
        return {6: "ALAW", 7: "ULAW"}.get(self.tag)


def read_header(file: File, check: Check) -> Sound:
    """Plain samples of 8 to 32 bits, A-law, mu-law and floats. Raises Undecodable for the rest."""
    magic = file.head(4)
    if file.head(4, 8) != b"WAVE":
        raise Undecodable("audio: is RIFF, but no WAV")
    layout, long_size, start, told = _walk(file)
    if magic != b"RIFF" and long_size is not None and told == 0xFFFFFFFF:
        told = long_size
    return sound_of(file, check, layout, start, told, sent_unchanged=magic in _SENT_UNCHANGED)


def sound_of(
    file: File, check: Check, layout: Layout, start: int, told: int, *, sent_unchanged: bool
) -> Sound:
    """The samples from `start` on, `told` bytes by the header. sent_unchanged: whether the
    container allows it."""
    subtype = layout.subtype() if layout.channels and layout.sample_rate else None
    if subtype is None:
        raise Undecodable(
            f"audio: WAV of format {layout.tag:#06x} with {layout.bits} bits and "
            f"{layout.channels} channels cannot be decoded"
        )
    align = layout.channels * pcm.WIDTHS[subtype]
    even = (layout.align, layout.bits) == (align, 8 * pcm.WIDTHS[subtype])
    warnings: list[str] = []
    return pcm.sound(
        file,
        check,
        subtype=subtype,
        big_endian=False,
        sample_rate=layout.sample_rate,
        channels=layout.channels,
        start=start,
        size=pcm.size_of_samples(file, start, told, align, warnings, "little"),
        warnings=warnings,
        sent_unchanged=(
            sent_unchanged
            and even
            and subtype in _SENT_SUBTYPES
            and pcm.is_told(file, start, told, "little")
        ),
    )


def _walk(file: File) -> tuple[Layout, int | None, int, int]:
    """The layout, ds64's size of the samples, where these begin, and their size as it is told."""
    layout = long_size = None
    position = 12
    for _ in range(_MOST_CHUNKS):
        header = file.head(8, position)
        if len(header) < 8:
            raise Undecodable("audio: WAV without samples; is the file complete?")
        name, size = header[:4], int.from_bytes(header[4:], "little")
        position += 8
        if name == b"data":
            if layout is None:
                raise Undecodable("audio: WAV without a fmt chunk before its samples")
            return layout, long_size, position, size
        body = file.head(min(size, 40), position)
        if name == b"fmt " and layout is None:
            layout = read_layout(body)
        elif name == b"ds64" and len(body) >= 16:
            long_size = int.from_bytes(body[8:16], "little")
        position += size + size % 2  # chunks begin at even positions
    raise Undecodable(f"audio: more than {_MOST_CHUNKS} WAV chunks before the samples")


def read_layout(body: bytes) -> Layout:
    if len(body) < 16:
        raise Undecodable(f"audio: WAV fmt chunk of {len(body)} bytes; at least 16 are needed")
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", body)
    if tag == _EXTENSIBLE and body[26:40] in _GUID_TAILS:
        tag = int.from_bytes(body[24:26], "little")
    return Layout(tag, channels, rate, align, bits)
