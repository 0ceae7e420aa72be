"""WAV, RF64 and BW64 (EBU 3306), with headers that are odd and sizes that were never filled in."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..mixing import Layout, layout_of_mask, of_ambisonic
from ..source import File
from . import pcm
from .sound import Check, Sound, Undecodable

_MOST_CHUNKS = 1000  # before the samples; a file of empty ones must not keep us busy
_EXTENSIBLE = 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_AMBISONIC_TAIL = bytes.fromhex("00002107d3118644c8c1ca000000")
_FLOATS = {4: "FLOAT", 8: "DOUBLE"}
_INTEGERS = {1: "PCM_U8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}
_SENT_UNCHANGED = (b"RIFF", b"RF64")
_SENT_SUBTYPES = {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"}


class Format(NamedTuple):
    """The fmt chunk."""

    tag: int
    channels: int
    sample_rate: int
    align: int  # bytes of a frame, as far as it can be trusted; of codings in blocks, of a block
    bits: int
    layout: Layout = ()
    usual: bool = True  # whether the tag stands where the server looks for it

    def width(self) -> int:
        """Bytes of a sample. A frame's size is believed only where it says 24 bits in four bytes,
        or where the bits aren't told: it is wrong too often."""
        if self.bits == 0 or (17 <= self.bits <= 24 and self.align == 4 * self.channels):
            return self.align // self.channels
        return -(-self.bits // 8)

    def subtype(self) -> str | None:
        """How soundfile calls it; None for codings that aren't plain samples. Samples of fewer bits
        than bytes hold stand in the highest ones."""
        if self.tag == 1:
            return _INTEGERS.get(self.width())
        if self.tag == 3:
            return _FLOATS.get(self.bits // 8)
        return {6: "ALAW", 7: "ULAW"}.get(self.tag)


class Found(NamedTuple):
    """What stands before the samples."""

    format: Format
    start: int  # of the samples, in bytes
    told: int  # their bytes, by the header
    frames: int | None  # by the fact chunk
    plain: bool  # whether the server finds the same


def read_header(file: File, check: Check) -> Sound:
    """Plain samples of 8 to 32 bits, A-law, mu-law and floats. Raises Undecodable for the rest."""
    return sound_of(file, check, walk(file))


def sound_of(file: File, check: Check, found: Found) -> Sound:
    """The samples of Found."""
    layout, start, told = found.format, found.start, found.told
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
        layout=layout.layout,
        sent_unchanged=(
            found.plain
            and layout.usual
            and even
            and subtype in _SENT_SUBTYPES
            and pcm.is_told(file, start, told, "little")
        ),
    )


def walk(file: File) -> Found:
    """The chunks up to the samples. Raises Undecodable."""
    magic = file.head(4)
    if file.head(4, 8) != b"WAVE":
        raise Undecodable("audio: is RIFF, but no WAV")
    layout = long_size = frames = None
    plain = magic in _SENT_UNCHANGED
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
            if magic != b"RIFF":
                plain &= long_size is not None and size == 0xFFFFFFFF
                size = long_size if long_size is not None and size in (0, 0xFFFFFFFF) else size
            return Found(layout, position, size, frames, plain)
        body = file.head(min(size, 40), position)
        if name == b"fmt " and layout is None:
            layout = read_format(body)
        elif name == b"ds64" and len(body) >= 16:
            long_size = int.from_bytes(body[8:16], "little")
        elif name == b"fact" and len(body) >= 4:
            frames = int.from_bytes(body[:4], "little")
        position += size
        if size % 2:  # chunks begin at even positions, which some programs don't know
            padded = pcm.is_chunk(file, position + 1) or not pcm.is_chunk(file, position)
            position += padded
            plain &= padded
    raise Undecodable(f"audio: more than {_MOST_CHUNKS} WAV chunks before the samples")


def read_format(body: bytes) -> Format:
    """The fmt chunk's bytes. Raises Undecodable."""
    if len(body) < 16:
        raise Undecodable(f"audio: WAV fmt chunk of {len(body)} bytes; at least 16 are needed")
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", body)
    if tag != _EXTENSIBLE or body[26:40] not in (_GUID_TAIL, _AMBISONIC_TAIL):
        return Format(tag, channels, rate, align, bits)
    usual = body[26:40] == _GUID_TAIL
    tag = int.from_bytes(body[24:26], "little")
    if usual:
        layout = layout_of_mask(int.from_bytes(body[20:24], "little"), channels)
    else:
        layout = of_ambisonic(channels)
    return Format(tag, channels, rate, align, bits, layout, usual)
