"""Sony's Wave64: WAV with names of 16 bytes and sizes of 64 bits."""

from __future__ import annotations

from ..source import File
from . import wav
from .sound import Check, Sound, Undecodable

_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of all names but riff's
_MOST_CHUNKS = 1000


def read_header(file: File, check: Check) -> Sound:
    """Plain samples; raises Undecodable for other codings."""
    return wav.sound_of(file, check, walk(file))


def walk(file: File) -> wav.Found:
    """The chunks up to the samples. Raises Undecodable."""
    if file.head(16, 24) != b"wave" + _TAIL:
        raise Undecodable("audio: Wave64 without a wave chunk")
    layout = frames = None
    position = 40
    for _ in range(_MOST_CHUNKS):
        header = file.head(24, position)
        size = int.from_bytes(header[16:], "little")
        if len(header) < 24 or header[4:16] != _TAIL:
            break
        position += 24
        if header[:4] == b"data" and layout is not None:
            told = size - 24 if size >= 24 else 0
            return wav.Found(layout, position, told, frames, plain=False)
        if header[:4] == b"fmt ":
            layout = wav.read_format(file.head(40, position))
        elif header[:4] == b"fact":
            frames = int.from_bytes(file.head(8, position), "little")
        position += max(-(-size // 8) * 8 - 24, 0)  # chunks begin at multiples of 8
    raise Undecodable("audio: Wave64 without samples; is the file complete?")
