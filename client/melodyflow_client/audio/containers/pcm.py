"""Samples that stand in a file one after another, whatever the container around them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import soundfile

from ..blocks import Block
from ..mixing import Layout
from ..source import File
from .libsndfile import TYPES, Stream, exact, reason
from .sound import Check, Sound, Undecodable
from .tags import end_of

WIDTHS = {
    "PCM_U8": 1,
    "PCM_S8": 1,
    "ULAW": 1,
    "ALAW": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
}

_MOST_CHUNKS = 1000
_CHUNK_NAME = re.compile(rb"[ -~]{4}")

# What programs put where a size cannot be known yet, such as when they write to a pipe.
LEAST_UNKNOWN = 0x7FFFF000  # SoX's; 2^31 - 1, 2^31 and 2^32 - 1 less a header are above it


def is_told(file: File, start: int, told: int, chunks: Literal["little", "big"] | None) -> bool:
    """Whether the size of the samples that begin at `start` is what it is told to be. 0 is believed
    where nothing follows, or `chunks` of that byte order, to the end."""
    if told == 0:
        return start >= file.size or (chunks is not None and _is_chunks(file, start, chunks))
    return told <= end_of(file, start) - start or told == file.size - start


def size_of_samples(
    file: File,
    start: int,
    told: int,
    align: int,
    warnings: list[str],
    chunks: Literal["little", "big"] | None,
) -> int:
    """The bytes of whole frames of `align` bytes from `start` on: as told, or to the end."""
    if is_told(file, start, told, chunks):
        return told // align * align
    there = end_of(file, start) - start
    if told and told < LEAST_UNKNOWN:
        warnings.append(
            f"the header announces {told // align} samples, the file has {there // align}"
        )
    return there // align * align


def is_chunk(file: File, position: int) -> bool:
    """Whether a chunk's name stands there."""
    header = file.head(8, position)
    return len(header) == 8 and _CHUNK_NAME.fullmatch(header[:4]) is not None


def _is_chunks(file: File, position: int, order: Literal["little", "big"]) -> bool:
    """Whether chunks, and nothing else, follow from `position` to the file's end."""
    for _ in range(_MOST_CHUNKS):
        if position >= file.size:
            return position <= file.size + 1  # the padding of the last one may be missing
        if not is_chunk(file, position):
            return False
        size = int.from_bytes(file.head(4, position + 4), order)
        position += 8 + size + size % 2
    return False


def sound(
    file: File,
    check: Check,
    *,
    subtype: str,
    big_endian: bool,
    sample_rate: int,
    channels: int,
    start: int,
    size: int,
    warnings: list[str],
    layout: Layout = (),
    sent_unchanged: bool = False,
) -> Sound:
    """The `size` bytes from `start` on, decoded as raw samples; `subtype` as in WIDTHS."""

    def blocks() -> Iterator[Block]:
        part = file.part(start, start + size)
        part.stream.seek(0)
        try:
            with Stream(
                part.stream,
                channels=channels,
                samplerate=sample_rate,
                format="RAW",
                subtype=subtype,
                endian="BIG" if big_endian else "LITTLE",
            ) as stream:
                for block in stream.all_blocks(TYPES[exact(subtype)]):
                    check()
                    yield block
        except soundfile.SoundFileError as error:  # thousands of channels, for one
            raise Undecodable(f"audio: cannot be decoded: {reason(error)}") from error

    return Sound(
        sample_rate=sample_rate,
        channels=channels,
        samples=size // (channels * WIDTHS[subtype]),
        subtype=exact(subtype),
        sent_unchanged=sent_unchanged,
        blocks=blocks,
        warnings=warnings,
        layout=layout,
    )
