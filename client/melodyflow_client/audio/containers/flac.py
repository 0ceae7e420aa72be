"""FLAC (RFC 9639): libsndfile decodes it; its total and its checksum are held to here. Others may
follow a stream that doesn't tell where it ends, as from a pipe."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import soundfile

from ...errors import AudioError
from ..blocks import Block, frames_of_block
from ..mixing import Layout, layout_of_mask, usual_layout
from ..source import File
from . import ffmpeg
from .chain import MOST_LINKS, chained
from .frames import behind
from .libsndfile import TYPES, Stream, exact, reason
from .sound import Check, Damaged, Sound, Undecodable, in_stereo
from .tags import end_of, tag_end

_BEGINNING = re.compile(rb"fLaC[\0\x80]\0\0\x22")
_BEGINNING_OR_TAG = re.compile(_BEGINNING.pattern + rb"|ID3[\x02-\x04]")
_SEARCHED = 1 << 14  # bytes at a time
_MOST_FAILED = 100_000  # tags that are none
_COMMENTS = 4  # the kind of a metadata block
_MOST_BLOCKS, _MOST_COMMENTS = 100, 1 << 16
_MASK = re.compile(rb"WAVEFORMATEXTENSIBLE_CHANNEL_MASK=0x([0-9A-Fa-f]{1,8})")
_SUBTYPES = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}  # what libsndfile and the server decode


class _Info(NamedTuple):
    """The STREAMINFO block (section 8.2), always the first one."""

    rate: int
    channels: int
    bits: int
    total: int  # samples; 0: not known
    checksum: bytes


def read_header(file: File, check: Check) -> Sound:
    """One stream, or all of several. Raises Undecodable."""
    streams = _streams(file, check)
    if len(streams) == 1:
        return _stream(file, check)
    sound = chained(streams, _past_damage, check)
    formats = {_info(stream)[:3] for stream in streams}
    if len(formats) == 1 and sound.channels == next(iter(formats))[1]:
        return replace(sound, subtype=_stream(streams[0], check).subtype)
    return sound


def _info(file: File) -> _Info:
    head = file.head(42)
    if len(head) < 42 or head[4] & 0x7F != 0 or head[5:8] != b"\0\0\x22":
        raise Undecodable("audio: FLAC without a STREAMINFO block")
    packed = int.from_bytes(head[18:26], "big")
    return _Info(
        rate=packed >> 44,
        channels=(packed >> 41 & 0x7) + 1,
        bits=(packed >> 36 & 0x1F) + 1,
        total=packed & (1 << 36) - 1,
        checksum=head[26:42],
    )


def _stream(file: File, check: Check) -> Sound:
    rate, channels, bits, total, checksum = _info(file)
    if bits not in _SUBTYPES:
        raise Undecodable(f"audio: FLAC of {bits} bits cannot be decoded")
    subtype = exact(_SUBTYPES[bits])

    def blocks() -> Iterator[Block]:
        digest = hashlib.md5(usedforsecurity=False)
        count = 0
        for block in _decoded(file, channels, TYPES[subtype], total):
            check()
            count += len(block)
            digest.update(_packed(block, bits))
            yield block
        if count < total:
            raise Damaged(f"the FLAC ends after {count} of {total} samples")
        if any(checksum) and digest.digest() != checksum:
            raise Damaged("the FLAC's checksum doesn't match its samples")

    return Sound(
        sample_rate=rate,
        channels=channels,
        samples=total or None,
        subtype=subtype,
        sent_unchanged=True,
        blocks=blocks,
        layout=_layout(file, channels),
    )


def _decoded(file: File, channels: int, kind: str, total: int) -> Iterator[Block]:
    """Blocks up to `total`, or to the end where it is 0."""
    file.stream.seek(0)
    size = frames_of_block(channels)
    count = 0
    try:
        with Stream(file.stream) as stream:
            if stream.channels != channels:
                raise Undecodable("audio: FLAC with two STREAMINFO blocks that differ")
            while count < total or not total:
                asked = min(size, total - count) if total else size
                block = stream.read(asked, dtype=kind, always_2d=True)
                count += len(block)
                if len(block):
                    yield block
                if len(block) < asked:
                    return
    except soundfile.SoundFileError as error:
        raise Damaged(f"the FLAC is damaged ({reason(error)})") from error


def _past_damage(file: File, check: Check) -> Sound:
    """A stream of a chain: from its damage on, FFmpeg decodes it."""
    try:
        sound = _stream(file, check)
    except Undecodable:
        return ffmpeg.read_header(file, check)
    sound = in_stereo(sound)

    def blocks() -> Iterator[Block]:
        count = 0
        try:
            for block in sound.blocks():
                count += len(block)
                yield block
        except Damaged as error:
            sound.warnings.append(error.what)
            rest = ffmpeg.read_header(file, check)
            if (rest.sample_rate, rest.channels) != (sound.sample_rate, sound.channels):
                raise
            yield from behind(count, rest.blocks())
            sound.warnings.extend(rest.warnings)

    return replace(sound, blocks=blocks)


def _streams(file: File, check: Check) -> list[File]:
    """The streams of a file, without the tags between them."""
    streams = []
    start: int | None = 0
    while start is not None:
        end, after = file.size, None
        if not _info(file.part(start, end)).total:
            end, after = _next(file, _end_of_metadata(file, start), check)
        part = file.part(start, end)
        streams.append(part.part(0, end_of(part, 0)))
        if len(streams) > MOST_LINKS:
            raise AudioError(f"audio: more than {MOST_LINKS} chained streams; split the file")
        start = after
    return streams


def _next(file: File, position: int, check: Check) -> tuple[int, int | None]:
    """Where the stream ends, and where the next one begins; None where none does."""
    failed = 0
    while position < file.size and failed < _MOST_FAILED:
        check()
        window = file.head(_SEARCHED, position)
        found = _BEGINNING_OR_TAG.search(window)
        if not found:
            position += max(len(window) - 7, 1)
            continue
        begin = after = position + found.start()
        while (end := tag_end(file, after)) != after:
            after = end
        if _BEGINNING.match(file.head(8, after)):
            return begin, after
        failed += 1
        position = begin + 1
    return file.size, None


def _metadata(file: File, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """Of each block of metadata: its kind, and where it begins and ends, without its header."""
    position, kind = start + 4, 0
    for _ in range(_MOST_BLOCKS):
        header = file.head(4, position)
        if len(header) < 4 or kind & 0x80:
            break
        kind, size = header[0], int.from_bytes(header[1:], "big")
        yield kind & 0x7F, position + 4, position + 4 + size
        position += 4 + size


def _end_of_metadata(file: File, start: int) -> int:
    return max((end for _, _, end in _metadata(file, start)), default=start + 4)


def _layout(file: File, channels: int) -> Layout:
    """The usual order, unless a comment names another one."""
    for kind, begin, end in _metadata(file):
        if kind == _COMMENTS:
            found = _MASK.search(file.head(min(end - begin, _MOST_COMMENTS), begin))
            if found:
                return layout_of_mask(int(found[1], 16), channels)
    return usual_layout(channels)


def _packed(block: Block, bits: int) -> bytes:
    """Little-endian samples of `bits`, as FLAC's checksum is made of."""
    if bits == 24:
        octets = np.ascontiguousarray(block, "<i4").view(np.uint8).reshape(-1, 4)
        return octets[:, 1:].tobytes()
    if bits == 8:
        return (block >> 8).astype(np.int8).tobytes()
    return block.astype("<i2", copy=False).tobytes()
