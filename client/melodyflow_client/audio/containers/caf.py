"""Apple's Core Audio Format."""

from __future__ import annotations

import math
import re
import struct

from ..source import File
from . import apple, libsndfile, pcm
from .sound import Check, Sound, Undecodable

_MOST_CHUNKS = 1000
_MOST_TABLE = 1 << 22  # bytes of a packet table
_SIZES = re.compile(rb"(?:[\x80-\xff]{0,3}[\0-\x7f])*")  # of packets, 7 bits a byte
_IS_FLOAT, _IS_LITTLE_ENDIAN = 1, 2
_INTEGERS = {1: "PCM_S8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}
_FLOATS = {4: "FLOAT", 8: "DOUBLE"}


def read_header(file: File, check: Check) -> Sound:
    """Plain samples, and what libsndfile decodes (ALAC, ADPCM). Raises Undecodable."""
    description = None
    layout = b""
    position = 8
    for _ in range(_MOST_CHUNKS):
        header = file.head(12, position)
        if len(header) < 12:
            break
        name, size = header[:4], int.from_bytes(header[4:], "big")  # -1: to the end
        position += 12
        if name == b"data" and description is not None:
            told = size - 4 if size >= 4 else 0
            return _sound(file, check, description, layout, position + 4, told)
        if name == b"desc":
            description = file.head(min(size, 32), position)
        elif name == b"chan":
            layout = file.head(min(size, apple.MOST), position)
        position += size
    raise Undecodable("audio: CAF without samples; is the file complete?")


def length(file: File) -> tuple[int, int] | None:
    """Of a coding in packets: the frames before its sound, and those of its sound; None where the
    packet table doesn't tell."""
    table = _packet_table(file)
    if table is None or len(table) < 24:
        return None
    _, valid, priming, _ = struct.unpack_from(">qqii", table)
    return (priming, valid) if priming >= 0 and valid > 0 else None


def _packet_table(file: File) -> bytes | None:
    position = 8
    for _ in range(_MOST_CHUNKS):
        header = file.head(12, position)
        if len(header) < 12:
            break
        size = int.from_bytes(header[4:], "big")
        if header[:4] == b"pakt":
            return file.head(min(size, _MOST_TABLE), position + 12)
        position += 12 + size
    return None


def _sound(
    file: File, check: Check, description: bytes, layout: bytes, start: int, told: int
) -> Sound:
    if len(description) < 32:
        raise Undecodable("audio: CAF with a description that is too short")
    rate, coding, flags, packet, _, channels, _ = struct.unpack(">d4sIIIII", description)
    width = packet // channels if channels else 0
    if coding == b"lpcm":
        subtype = (_FLOATS if flags & _IS_FLOAT else _INTEGERS).get(width)
    else:
        subtype = {b"ulaw": "ULAW", b"alaw": "ALAW"}.get(coding)
    if subtype is None and channels:
        table = _packet_table(file)
        if table is not None and not _SIZES.fullmatch(table, 24):
            raise Undecodable("audio: CAF with a broken packet table")  # libsndfile would print it
        sound = libsndfile.read_header(file, check)
        if pcm.LEAST_UNKNOWN > told > file.size - start:
            sound.warnings.append(
                f"the header announces {told} bytes of sound, the file has {file.size - start}"
            )
        return sound
    if subtype is None or not math.isfinite(rate) or not 1 <= rate < 2**32:
        raise Undecodable("audio: CAF of this coding cannot be decoded")
    warnings: list[str] = []
    align = channels * pcm.WIDTHS[subtype]
    return pcm.sound(
        file,
        check,
        subtype=subtype,
        big_endian=not flags & _IS_LITTLE_ENDIAN,
        sample_rate=round(rate),
        channels=channels,
        start=start,
        size=pcm.size_of_samples(file, start, told, align, warnings, None),
        warnings=warnings,
        layout=apple.layout(layout, channels),
    )
