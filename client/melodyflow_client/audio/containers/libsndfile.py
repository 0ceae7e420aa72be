"""What libsndfile reads without a loss: AIFF, CAF, W64, AU, and WAV of other codings."""

from __future__ import annotations

from collections.abc import Iterator

import soundfile

from ..blocks import Block, frames_of_block
from ..source import File
from .sound import Check, Damaged, Sound, Undecodable

_READ = {
    *("WAV", "WAVEX", "RF64", "AIFF", "CAF", "W64", "AU"),
    *("SVX", "VOC", "NIST", "PAF", "IRCAM", "AVR", "PVF", "OGG"),
}

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
TYPES = {
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
        channels = stream.channels
    if container not in _READ or coding.startswith("MPEG"):
        raise Undecodable(f"audio: {container} of {coding} is left to FFmpeg")
    if channels > 2:
        raise Undecodable(f"audio: {channels} channels of {coding} are left to FFmpeg")
    return _sound(file, check, exact(coding))


def vorbis(file: File, check: Check) -> Sound:
    """Ogg Vorbis of one or two channels. Raises Undecodable."""
    with _open(file) as stream:
        if stream.subtype != "VORBIS" or stream.channels > 2:
            raise Undecodable(f"audio: {stream.subtype} is left to FFmpeg")
    return _sound(file, check, None)


def _sound(file: File, check: Check, subtype: str | None) -> Sound:
    with _open(file) as stream:
        rate, channels, samples = stream.samplerate, stream.channels, stream.frames
    warnings: list[str] = []

    def blocks() -> Iterator[Block]:
        count = 0
        with _open(file) as stream:
            try:
                for block in stream.all_blocks(TYPES[subtype or "FLOAT"]):
                    check()
                    count += len(block)
                    yield block
            except soundfile.SoundFileError as error:
                raise Damaged(f"the file is damaged ({reason(error)})") from error
        if count < samples:
            warnings.append(f"the file announces {samples} samples, it has {count}")

    return Sound(
        sample_rate=int(rate),
        channels=int(channels),
        samples=int(samples),
        subtype=subtype,
        sent_unchanged=False,
        blocks=blocks,
        warnings=warnings,
    )


class Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file read from start to end: soundfile seeks after each read of a seekable one, which
    decodes FLAC twice and fails where the total is unknown."""

    def seekable(self) -> bool:
        return False

    def all_blocks(self, kind: str) -> Iterator[Block]:
        """The samples as `kind`, a type of numpy, up to the end."""
        size = frames_of_block(self.channels)
        while len(block := self.read(size, dtype=kind, always_2d=True)):
            yield block
            if len(block) < size:
                return


def exact(coding: str) -> str:
    """What holds the samples of a coding exactly, one of TYPES."""
    return _DEPTHS.get(coding, "PCM_16")


def _open(file: File) -> Stream:
    file.stream.seek(0)
    try:
        return Stream(file.stream)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: it takes it for raw samples
        raise Undecodable(f"audio: cannot be decoded: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Without the address of an object, which the exception's own text holds."""
    text = str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(".")
    return "its frames or tags are broken" if text.startswith("unknown error") else text
