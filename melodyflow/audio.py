"""Audio files and waveforms: bytes in, a waveform at the model's rate, and the way back.

A waveform is float32 `[channels, samples]`, full scale at 1.0. The file formats themselves are
in containers.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import soxr

from melodyflow import containers, contract
from melodyflow.containers import INFO_TAGS, AudioError, Waveform

__all__ = [
    "FORMATS",
    "Audio",
    "AudioError",
    "Extent",
    "Limits",
    "check_format",
    "check_header",
    "from_model",
    "level",
    "loop_length",
    "model_length",
    "peak",
    "read",
    "region_samples",
    "result_length",
    "splice",
    "to_model",
    "write",
]

BITS = {"wav": 16, "wav24": 24, "wav32f": 32, "flac": 24}
FORMATS = tuple(BITS)

MAX_PEAK = 1e6  # 120 dB above full scale: no music, and float32 overflows further on
LOOP_CONTEXT = 8192  # samples around a lap that the resampler hears at least: more than its filters
LOOP_PIECE = 2**20  # samples of a lap that are resampled at a time
RESAMPLER_ROUNDING = 2  # samples a resampled length may differ from the exact one


@dataclass(frozen=True)
class Limits:
    """What is accepted as input, whatever the checkpoint."""

    max_bytes: int = contract.Limits.max_audio_bytes  # of the file, after base64
    max_channels: int = contract.Limits.max_channels
    min_sample_rate: int = contract.Limits.min_sample_rate  # Hz
    max_sample_rate: int = contract.Limits.max_sample_rate  # Hz
    min_seconds: float = contract.Limits.min_seconds


@dataclass(frozen=True)
class Extent:
    """How large a waveform is; rate in Hz."""

    channels: int
    samples: int
    sample_rate: int

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate


@dataclass(frozen=True)
class Audio:
    """A decoded file: `samples` float32 `[channels, samples]`, all finite; rate in Hz."""

    samples: Waveform
    sample_rate: int
    subtype: str  # how the file stored a sample: PCM_16, PCM_24, PCM_32, FLOAT, DOUBLE, PCM_S8

    @property
    def extent(self) -> Extent:
        return Extent(self.samples.shape[0], self.samples.shape[1], self.sample_rate)


def model_length(samples: int, own_rate: int, model_rate: int) -> int:
    """Samples at `model_rate` that cover `samples` at `own_rate`: ceil, in integers."""
    return -(-samples * model_rate // own_rate)


def result_length(samples: int, own_rate: int, asked_rate: int) -> int:
    """Samples at `asked_rate` that last as long as `samples` at `own_rate`: nearest integer."""
    return (2 * samples * asked_rate + own_rate) // (2 * own_rate)


def read(data: bytes, limits: Limits, *, model_rate: int, max_model_samples: int) -> Audio:
    """Decode a WAV (PCM 16/24/32, float 32/64) or FLAC (8, 16, 24 bit) file, told by its content.

    The limits are held against the header first and against the samples again, because headers
    lie; memory stays within what `max_model_samples` (at `model_rate`, Hz) allows. Raises
    AudioError, and nothing else, for any bytes whatever.
    """
    header = check_header(data, limits, model_rate=model_rate, max_model_samples=max_model_samples)
    rate = header.sample_rate
    most = _longest(rate, model_rate, max_model_samples)
    samples, subtype = containers.decode(data, header, most)
    _check_length(samples.shape[1], rate, most, limits)
    if not peak(samples) <= MAX_PEAK:  # false for NaN as well
        where = tuple(int(i) for i in np.argwhere(~(np.abs(samples) <= MAX_PEAK))[0])
        raise AudioError(
            f"audio: sample {where[1]} of channel {where[0]} is {samples[where]}; "
            f"finite values from {-MAX_PEAK:.0f} to {MAX_PEAK:.0f} are allowed (full scale is 1)"
        )
    return Audio(samples, rate, subtype)


def check_header(
    data: bytes, limits: Limits, *, model_rate: int, max_model_samples: int
) -> containers.Header:
    """What a WAV or FLAC file says of itself, held against the limits as far as it does: the cheap
    half of read(). Raises AudioError."""
    if len(data) > limits.max_bytes:
        raise AudioError(f"audio: {len(data)} bytes; at most {limits.max_bytes} are allowed")
    header = containers.read_header(data)
    if not 1 <= header.channels <= limits.max_channels:
        raise AudioError(
            f"audio: {header.channels} channels; 1 to {limits.max_channels} are allowed"
        )
    if not limits.min_sample_rate <= header.sample_rate <= limits.max_sample_rate:
        raise AudioError(
            f"audio: {header.sample_rate} Hz; "
            f"{limits.min_sample_rate} to {limits.max_sample_rate} Hz are allowed"
        )
    if header.samples is not None:
        most = _longest(header.sample_rate, model_rate, max_model_samples)
        _check_length(header.samples, header.sample_rate, most, limits)
    return header


def _longest(rate: int, model_rate: int, max_model_samples: int) -> int:
    """The largest number of samples at `rate` whose model_length() is allowed."""
    return max_model_samples * rate // model_rate


def _check_length(samples: int, rate: int, most: int, limits: Limits) -> None:
    if samples > most:
        raise AudioError(
            f"audio: {samples} samples at {rate} Hz ({samples / rate:.3f} s); "
            f"at most {most} ({most / rate:.3f} s) are allowed"
        )
    if samples == 0 or samples / rate < limits.min_seconds:
        raise AudioError(
            f"audio: {samples} samples at {rate} Hz ({samples / rate:.3f} s); "
            f"at least {limits.min_seconds} s are needed"
        )


def loop_length(samples: int, own_rate: int, model_rate: int, hop: int) -> int:
    """Samples at `model_rate` of a loop of `samples` at `own_rate`: whole frames of `hop`, at least
    one."""
    frames = (2 * samples * model_rate + own_rate * hop) // (2 * own_rate * hop)
    return max(1, frames) * hop


def to_model(
    audio: Audio, *, sample_rate: int, channels: int, loop_hop: int | None = None
) -> Waveform:
    """The waveform as a checkpoint takes it: float32 `[channels, n_model]`, n_model =
    model_length(). Mono is duplicated; for a mono checkpoint stereo is averaged. At equal rates
    the samples are the file's own (and may share its memory). `loop_hop`: it is a loop, which
    gets loop_length() samples."""
    wave = audio.samples
    if wave.shape[0] > 1 and channels == 1:
        wave = np.mean(wave, axis=0, keepdims=True, dtype=np.float32)
    if wave.shape[0] not in (1, channels):
        raise AudioError(f"audio: {wave.shape[0]} channels; 1 to {channels} are allowed")
    own = audio.extent
    if loop_hop is None:
        length = model_length(own.samples, own.sample_rate, sample_rate)
        wave = _resample(wave, own.sample_rate, sample_rate, length)
    else:
        length = loop_length(own.samples, own.sample_rate, sample_rate, loop_hop)
        wave = _resample_loop(wave, length)
    return wave if wave.shape[0] == channels else np.repeat(wave, channels, axis=0)


def from_model(
    decoded: Waveform, *, model_rate: int, extent: Extent, sample_rate: int, loop: bool = False
) -> Waveform:
    """The codec's untrimmed output `[channels, >= n_model]` at `model_rate` -> float32
    `[channels, n_out]` at `sample_rate`, as long as a source of that `extent` to the sample, with
    as many channels as the larger of the two. Resampled before it is cropped, so that the
    resampler sees what follows the end. ValueError where `decoded` does not cover the source.
    `loop`: all of `decoded` is one lap. At equal rates the result may share its memory."""
    length = result_length(extent.samples, extent.sample_rate, sample_rate)
    needed = model_length(extent.samples, extent.sample_rate, model_rate)
    if loop:
        wave = _resample_loop(decoded, length)
    elif decoded.shape[1] < needed:
        raise ValueError(f"decoded: {decoded.shape[1]} samples; at least {needed} are needed")
    else:
        wave = _resample(decoded, model_rate, sample_rate, length)
    if wave.shape[0] == 1 and extent.channels > 1:
        wave = np.repeat(wave, extent.channels, axis=0)
    return wave


def _resample(wave: Waveform, rate: int, new_rate: int, samples: int) -> Waveform:
    """soxr's best quality: linear phase, no delay. So many samples of it: cropped, or padded with
    zeros by no more than the resampler's rounding. At equal rates it shares its memory."""
    if rate == new_rate:
        return wave[:, :samples]
    resampled = np.zeros((wave.shape[0], samples), np.float32)
    for channel, made in zip(wave, resampled, strict=True):  # one at a time takes less memory
        new = soxr.resample(np.ascontiguousarray(channel), rate, new_rate, quality="VHQ")[:samples]
        if samples - len(new) > RESAMPLER_ROUNDING:
            raise ValueError(f"waveform: {len(new)} samples where {samples} are needed")
        made[: len(new)] = new
    return resampled


def _resample_loop(wave: Waveform, samples: int) -> Waveform:
    """One lap of a loop in so many samples. The resampler hears whole laps before and after it, as
    who listens to the loop does, and what it makes of these is thrown away; in pieces, so that they
    take no memory."""
    own = wave.shape[1]
    if own == samples:
        return wave
    around = -(-LOOP_CONTEXT // own)  # laps
    firsts = [*range(0, own, LOOP_PIECE)] * (around + 1 + around)
    resampled = np.empty((wave.shape[0], samples), np.float32)
    for channel, made in zip(wave, resampled, strict=True):
        stream = soxr.ResampleStream(own, samples, 1, dtype="float32", quality="VHQ")
        at = -around * samples
        for number, first in enumerate(firsts, 1):
            piece = np.ascontiguousarray(channel[first : first + LOOP_PIECE])
            new = stream.resample_chunk(piece, last=number == len(firsts))
            begin, end = max(at, 0), min(at + len(new), samples)
            if begin < end:
                made[begin:end] = new[begin - at : end - at]
            at += len(new)
            if at >= samples:
                break
    return resampled


def region_samples(
    start: float | None, end: float | None, extent: Extent, limits: Limits
) -> tuple[int, int]:
    """The samples first <= i < last of a clip between two times in seconds; None: the clip's own
    start or end. Raises AudioError where they are no part of it, or shorter than the shortest
    clip. An end may be late by a millisecond, which is more than float32 rounds it by."""
    rate = extent.sample_rate
    first = round((start or 0.0) * rate)
    last = extent.samples if end is None else min(round(end * rate), extent.samples)
    for name, value in (("start", start), ("end", end)):
        if value is not None and value > extent.seconds + 0.001:
            raise AudioError(f"{name}: {value:g}; the clip ends at {extent.seconds:.6g} s")
    # Both ends are rounded, so that one sample may lack.
    if last - first < round(limits.min_seconds * rate) - 1:
        name, value = ("start", start) if end is None else ("end", end)
        seconds = max(0, last - first) / rate
        raise AudioError(
            f"{name}: {value:g}; the region would have {seconds:.6g} s, at least "
            f"{limits.min_seconds:g} s are needed"
        )
    return first, last


def splice(source: Waveform, result: Waveform, first: int, last: int, fade: int) -> Waveform:
    """The source with the result `[channels, last - first]` in its samples first <= i < last; the
    source has its own channels, or one. Within `fade` samples inside of either end the two are
    crossfaded, unless that end is the source's own."""
    samples = source.shape[1]
    spliced = np.repeat(source, result.shape[0] // source.shape[0], axis=0)
    weight = np.ones(last - first, np.float32)
    fade = min(fade, (last - first) // 2)
    # Raised cosines that add up to 1: never louder than the louder of the two.
    rise = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / max(fade, 1)).astype(np.float32) ** 2
    if first > 0:
        weight[:fade] = rise
    if last < samples:
        weight[len(weight) - fade :] = rise[::-1]
    inside = spliced[:, first:last]
    inside += weight * (result - inside)
    return spliced


def peak(waveform: Waveform) -> float:
    """The largest absolute sample."""
    return max(float(waveform.max(initial=0.0)), -float(waveform.min(initial=0.0)))


def check_format(format: str, sample_rate: int) -> None:
    """Raise AudioError where `format` is unknown or cannot hold `sample_rate` (Hz)."""
    if format not in FORMATS:
        raise AudioError(f"format: {format!r}; {', '.join(FORMATS)} are allowed")
    # RFC 9639, section 9.1.2: a frame header holds rates to 65535 Hz, above them tens of Hz.
    if format == "flac" and sample_rate > 65535 and sample_rate % 10:
        raise AudioError(
            f"sample_rate: {sample_rate} Hz in FLAC; above 65535 Hz multiples of 10 are allowed"
        )


def level(waveform: Waveform, format: str) -> float:
    """Scale, in place, what an integer format would clip: the gain in dB, 0.0 where untouched.

    Scaled only where the peak exceeds 1.0, as a whole, so that the largest sample becomes the
    largest value of the format. `wav32f` is never touched. ValueError for NaN and infinity.
    """
    check_format(format, 0)
    largest = peak(waveform)
    if not math.isfinite(largest):
        raise ValueError(f"waveform: its peak is {largest}; it must be finite")
    if format == "wav32f" or largest <= 1.0:
        return 0.0
    full = 2.0 ** (BITS[format] - 1)
    gain = (full - 1) / full / largest
    # in float64: a float32 gain's rounding would miss the largest 24-bit value
    np.multiply(waveform, gain, out=waveform, dtype=np.float64, casting="same_kind")
    return 20 * math.log10(gain)


def write(waveform: Waveform, sample_rate: int, format: str, comments: Mapping[str, str]) -> bytes:
    """A file of `waveform` `[channels, samples]`: WAV of PCM 16, PCM 24 or float 32, FLAC of 24
    bits. `comments` (keys of INFO_TAGS) become LIST/INFO or FLAC comments, in UTF-8. The same
    arguments give the same bytes. Beyond full scale integers are clipped: see level()."""
    check_format(format, sample_rate)
    unknown = sorted(set(comments) - set(INFO_TAGS))
    if unknown:
        raise ValueError(f"comments: {', '.join(unknown)}; {', '.join(INFO_TAGS)} are allowed")
    # NUL ends a string in both containers; a lone surrogate has no UTF-8
    texts = {
        name: text.replace("\0", " ").encode("utf-8", "replace").decode()
        for name, text in comments.items()
    }
    if format == "flac":
        return containers.encode_flac(waveform, sample_rate, texts)
    tag = 3 if format == "wav32f" else 1
    return containers.encode_wav(waveform, sample_rate, tag, BITS[format], texts)
