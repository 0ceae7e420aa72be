"""FLAC (RFC 9639): libsndfile decodes it; its total and its checksum are held to here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import numpy as np
import soundfile

from ..blocks import Block, frames_of_block
from ..mixing import Layout, layout_of_mask, usual_layout
from ..source import File
from .libsndfile import TYPES, Stream, exact, reason
from .sound import Check, Damaged, Sound, Undecodable

_COMMENTS = 4  # the kind of a metadata block
_MOST_BLOCKS, _MOST_COMMENTS = 100, 1 << 16
_MASK = re.compile(rb"WAVEFORMATEXTENSIBLE_CHANNEL_MASK=0x([0-9A-Fa-f]{1,8})")
_SUBTYPES = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}  # what libsndfile and the server decode


def read_header(file: File, check: Check) -> Sound:
    """The STREAMINFO block (section 8.2), always the first one. Raises Undecodable."""
    head = file.head(42)
    if len(head) < 42 or head[4] & 0x7F != 0 or head[5:8] != b"\0\0\x22":
        raise Undecodable("audio: FLAC without a STREAMINFO block")
    packed = int.from_bytes(head[18:26], "big")
    rate, channels, bits = packed >> 44, (packed >> 41 & 0x7) + 1, (packed >> 36 & 0x1F) + 1
    total = packed & (1 << 36) - 1  # 0: not known
    checksum = head[26:42]
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


def _layout(file: File, channels: int) -> Layout:
    """The usual order, unless a comment names another one."""
    position, kind = 4, 0
    for _ in range(_MOST_BLOCKS):
        header = file.head(4, position)
        if len(header) < 4 or kind & 0x80:
            break
        kind, size = header[0], int.from_bytes(header[1:], "big")
        if kind & 0x7F == _COMMENTS:
            found = _MASK.search(file.head(min(size, _MOST_COMMENTS), position + 4))
            if found:
                return layout_of_mask(int(found[1], 16), channels)
        position += 4 + size
    return usual_layout(channels)


def _packed(block: Block, bits: int) -> bytes:
    """Little-endian samples of `bits`, as FLAC's checksum is made of."""
    if bits == 24:
        octets = np.ascontiguousarray(block, "<i4").view(np.uint8).reshape(-1, 4)
        return octets[:, 1:].tobytes()
    if bits == 8:
        return (block >> 8).astype(np.int8).tobytes()
    return block.astype("<i2", copy=False).tobytes()
