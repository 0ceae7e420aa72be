"""Lossless containers, decoded by libsndfile: WAV, RF64, FLAC, AIFF, CAF, W64, AU."""

from __future__ import annotations

from collections.abc import Iterator

import soundfile

from ..blocks import Block, frames_of_block
from ..source import File
from .sound import Check, Sound, Undecodable

_SENT_UNCHANGED = {
    "WAV": {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"},
    "WAVEX": {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"},
    "RF64": {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"},
    "FLAC": {"PCM_S8", "PCM_16", "PCM_24"},
}
_MAGIC = (b"RIFF", b"RF64", b"fLaC")  # what the server goes by
_READ = {"WAV", "WAVEX", "RF64", "FLAC", "AIFF", "CAF", "W64", "AU"}

# Of the subtypes that aren't here (8 bits, A-law, mu-law, ADPCM, GSM) libsndfile makes 16 bits.
_DEPTHS = {
    "PCM_24": "PCM_24",
    "PCM_32": "PCM_32",
    "FLOAT": "FLOAT",
    "DOUBLE": "DOUBLE",
    "ALAC_20": "PCM_24",
    "ALAC_24": "PCM_24",
    "ALAC_32": "PCM_32",
}
_TYPES = {
    "PCM_16": "int16",
    "PCM_24": "int32",
    "PCM_32": "int32",
    "FLOAT": "float32",
    "DOUBLE": "float64",
}


def read_header(file: File, check: Check) -> Sound:
    """The sound of a file that libsndfile reads without a loss. Raises Undecodable."""
    with _open(file) as stream:
        container, coding = stream.format, stream.subtype
        rate, channels, samples = stream.samplerate, stream.channels, stream.frames
    if container not in _READ:
        raise Undecodable(f"audio: {container} is left to FFmpeg")
    subtype = _DEPTHS.get(coding, "PCM_16")

    def blocks() -> Iterator[Block]:
        with _open(file) as stream:
            size = frames_of_block(channels)
            while True:
                check()
                try:
                    block = stream.read(size, dtype=_TYPES[subtype], always_2d=True)
                except soundfile.SoundFileError as error:
                    raise _undecodable(error) from error
                if len(block):
                    yield block
                if len(block) < size:
                    return

    return Sound(
        sample_rate=int(rate),
        channels=int(channels),
        samples=int(samples) if samples < 2**62 else None,  # FLAC without a total
        subtype=subtype,
        sent_unchanged=file.head(4) in _MAGIC and coding in _SENT_UNCHANGED.get(container, ()),
        blocks=blocks,
    )


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file read from start to end: soundfile seeks after each read of a seekable one, which
    decodes FLAC twice and fails where the total is unknown."""

    def seekable(self) -> bool:
        return False


def _open(file: File) -> _Stream:
    file.stream.seek(0)
    try:
        return _Stream(file.stream)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: it takes it for raw samples
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> Undecodable:
    # error_string: the exception's own text holds the address of an object
    return Undecodable(f"audio: cannot be decoded: {getattr(error, 'error_string', error)}")
