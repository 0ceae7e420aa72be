"""FLAC (RFC 9639): libsndfile decodes it; its total and its checksum are held to here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import soundfile

from ..blocks import Block, frames_of_block
from ..source import File
from .libsndfile import TYPES, Stream, exact, reason
from .sound import Check, Damaged, Sound, Undecodable

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
        sound.sent_unchanged = not (total and _is_followed(file, total))

    sound = Sound(
        sample_rate=rate,
        channels=channels,
        samples=total or None,
        subtype=subtype,
        sent_unchanged=True,
        blocks=blocks,
    )
    return sound


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


def _is_followed(file: File, total: int) -> bool:
    """Whether anything stands behind the last sample, which the server's decoder stumbles over."""
    file.stream.seek(0)
    try:
        with Stream(file.stream) as stream:
            stream.seek(total - 1)
            return len(stream.read(2, dtype="int32", always_2d=True)) != 1
    except soundfile.SoundFileError:
        return True


def _packed(block: Block, bits: int) -> bytes:
    """Little-endian samples of `bits`, as FLAC's checksum is made of."""
    if bits == 24:
        octets = np.ascontiguousarray(block, "<i4").view(np.uint8).reshape(-1, 4)
        return octets[:, 1:].tobytes()
    if bits == 8:
        return (block >> 8).astype(np.int8).tobytes()
    return block.astype("<i2", copy=False).tobytes()
