"""Writes a waveform as a file's bytes."""

from collections.abc import Mapping

from melodyflow.audio.containers import flac, wav
from melodyflow.audio.containers.wav import INFO_TAGS
from melodyflow.audio.waveform import Waveform
from melodyflow.errors import AudioError

BITS = {"wav": 16, "wav24": 24, "wav32f": 32, "flac": 24}
FORMATS = tuple(BITS)


def check_format(format: str, sample_rate: int) -> None:
    """Raises AudioError if `format` is unknown or can't hold `sample_rate` (Hz)."""
    if format not in FORMATS:
        raise AudioError(f"format: {format!r}; {', '.join(FORMATS)} are allowed")
    # RFC 9639, section 9.1.2: a frame header holds rates up to 65535 Hz, or multiples of 10 Hz.
    if format == "flac" and sample_rate > 65535 and sample_rate % 10:
        raise AudioError(
            f"sample_rate: {sample_rate} Hz; in FLAC, rates above 65535 Hz must be multiples of 10"
        )


def write(waveform: Waveform, sample_rate: int, format: str, comments: Mapping[str, str]) -> bytes:
    """Writes `[channels, samples]` as WAV (PCM 16, PCM 24 or float 32) or 24-bit FLAC. `comments`
    (keys of INFO_TAGS) become LIST/INFO or FLAC comments, in UTF-8. The same arguments give the
    same bytes. Integer formats clip at full scale: see prevent_clipping()."""
    check_format(format, sample_rate)
    unknown = sorted(set(comments) - set(INFO_TAGS))
    if unknown:
        raise ValueError(f"comments: {', '.join(unknown)}; {', '.join(INFO_TAGS)} are allowed")
    # NUL ends a string in both containers; a lone surrogate can't be encoded as UTF-8
    texts = {
        name: text.replace("\0", " ").encode("utf-8", "replace").decode()
        for name, text in comments.items()
    }
    if format == "flac":
        return flac.encode(waveform, sample_rate, texts)
    tag = 3 if format == "wav32f" else 1
    return wav.encode(waveform, sample_rate, tag, BITS[format], texts)
