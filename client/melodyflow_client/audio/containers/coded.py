"""WAV and Wave64 of codings in blocks (ADPCM, GSM): their last block is filled up, and where the
sound ends stands elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..blocks import Block
from ..source import File
from . import ffmpeg, libsndfile, pcm, wav
from .frames import first
from .sound import Check, Sound, Undecodable

_MS, _IMA, _GSM = 0x2, 0x11, 0x31
_MPEG = (0x50, 0x55)
_OTHERS = (0x14, 0x20, 0x38, 0x40, 0x64, 0x65)  # further kinds of ADPCM
_MOST_FILLED_UP = 4096  # frames, in blocks of theirs


def reader(walk: Callable[[File], wav.Found]) -> Callable[[File, Check], Sound]:
    """What reads such a file, whose chunks `walk` finds."""

    def read_header(file: File, check: Check) -> Sound:
        found = walk(file)
        if found.format.tag in _MPEG:
            return ffmpeg.read_header(file, check)
        if found.format.tag not in (_MS, _IMA, _GSM, *_OTHERS) or not found.format.channels:
            raise Undecodable("audio: WAV that isn't coded in blocks")
        cut: list[str] = []
        size = pcm.size_of_samples(file, found.start, found.told, 1, cut, "little")
        try:
            if not found.told:
                raise Undecodable("audio: a size that was never filled in is left to FFmpeg")
            sound = libsndfile.read_header(file, check)
        except Undecodable:
            sound = ffmpeg.read_header(file, check)
            sound.samples = None  # what is announced, less than there is
        total = _length(found, sound, size)
        decode = sound.blocks

        def blocks() -> Iterator[Block]:
            return first(total, decode())

        sound.blocks, sound.samples = blocks, total
        if cut:
            sound.warnings.append(
                f"the header announces {found.told} bytes of sound, the file has {size}"
            )
        return sound

    return read_header


def others(walk: Callable[[File], wav.Found]) -> Callable[[File, Check], Sound]:
    """libsndfile, but for MPEG audio, whose decoder there writes to standard error."""

    def read_header(file: File, check: Check) -> Sound:
        try:
            mpeg = walk(file).format.tag in _MPEG
        except Undecodable:
            mpeg = False
        if mpeg:
            raise Undecodable("audio: MPEG audio in a WAV is left to FFmpeg")
        return libsndfile.read_header(file, check)

    return read_header


def _length(found: wav.Found, sound: Sound, size: int) -> int | None:
    """The samples of `size` bytes, without those that fill the last block up."""
    there = _frames_of(found.format, size)
    if there is None:
        there = sound.samples
    if there is None or found.frames is None:
        return there
    if not found.frames or found.frames == there // found.format.channels != there:
        return there  # libsndfile writes an ADPCM's frames divided by its channels
    block = _frames_of(found.format, found.format.align) or _MOST_FILLED_UP
    return found.frames if 0 <= there - found.frames < block else there


def _frames_of(layout: wav.Format, size: int) -> int | None:
    """The samples in blocks of `size` bytes, the last of which may be cut."""
    channels = layout.channels
    if layout.tag == _GSM:
        return size // 65 * 320
    if layout.tag not in (_MS, _IMA) or layout.bits != 4 or not layout.align:
        return None

    def frames(size: int) -> int:
        coded = size - (7 if layout.tag == _MS else 4) * channels  # after the block's own header
        if coded < 0:
            return 0
        return 2 + coded * 2 // channels if layout.tag == _MS else 1 + coded // (4 * channels) * 8

    blocks, rest = divmod(size, layout.align)
    return blocks * frames(layout.align) + frames(rest)
