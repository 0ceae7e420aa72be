"""Anything with sound in it -> the WAV or FLAC bytes that are sent, and a hash of what they say.

WAV (PCM 16/24/32, float 32/64) and FLAC travel as they are. Arrays become WAV. Other lossless files
(AIFF, CAF, 8-bit WAV ...) are re-written through soundfile; MP3, M4A, OGG and video are decoded by
PyAV, an extra. Nothing is resampled: rate and length are the source's.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import math
import os
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from .errors import AudioError, shown

# gRPC cannot carry 2 GiB; servers allow far less (docs/contract.md).
MAX_BYTES = 2**31 - 2**20

_SENT_AS_IS = {
    "WAV": {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"},
    "WAVEX": {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"},
    "RF64": {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"},
    "FLAC": {"PCM_S8", "PCM_16", "PCM_24"},
}
_MAGIC = (b"RIFF", b"RF64", b"fLaC")
_REWRITTEN = {"WAV", "WAVEX", "RF64", "FLAC", "AIFF", "CAF", "W64", "AU"}
_WAV_SUBTYPES = {"int16": "PCM_16", "int32": "PCM_32", "float32": "FLOAT", "float64": "DOUBLE"}
_BLOCK_FRAMES = 1 << 16

# Playlists and other formats that make FFmpeg open further files or addresses are left out.
_FORMATS = (
    "mp3,mov,mp4,m4a,3gp,matroska,webm,ogg,aac,avi,flv,mpeg,mpegts,asf,wav,aiff,caf,w64,flac,"
    "wv,ape,ac3,eac3,dts,amr,au,mp2"
)


@dataclass(frozen=True)
class Clip:
    """A sound, ready to send.

    data: WAV or FLAC bytes. digest: hex SHA-256 of the decoded samples, rate and channels, so
    that the same sound in two containers is one clip. samples: per channel.
    """

    data: bytes
    digest: str
    sample_rate: int
    channels: int
    samples: int


AudioSource: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | tuple[npt.ArrayLike, int]
    | Clip
)


def load(source: AudioSource, *, max_seconds: float = math.inf) -> Clip:
    """Reads a path, bytes, a binary file object (from where it stands) or `(array, rate)`.

    An array is `[channels, samples]` or `[samples]`, int16, int32, float32 or float64, full scale
    at 1.0 for floats; rate in Hz. A clip that is loaded already is taken as it is. What is longer
    than `max_seconds` is given up, whatever its header says. Raises AudioError.
    """
    if isinstance(source, Clip):
        return source
    if isinstance(source, tuple):
        return _clip(_array_to_wav(source), max_seconds)
    data = _read(source)
    if not data:
        raise AudioError("audio: is empty, 0 bytes")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            major, subtype = file.format, file.subtype
    except soundfile.SoundFileError:
        major = subtype = ""
    if data.startswith(_MAGIC) and subtype in _SENT_AS_IS.get(major, ()):
        return _clip(data, max_seconds)
    if major in _REWRITTEN:
        _check_header(data, max_seconds)
        return _clip(_encode(*_decode_lossless(data)), max_seconds)
    return _clip(_encode(*_decode_with_av(data, max_seconds)), max_seconds)


def waveform(data: bytes) -> tuple[npt.NDArray[np.float32], int]:
    """WAV or FLAC bytes -> float32 `[channels, samples]`, full scale at 1.0, and the rate in Hz."""
    samples, rate = _decode_lossless(data)
    return np.ascontiguousarray(samples.T), rate


def _read(source: object) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif isinstance(source, str | os.PathLike):
        try:
            with open(source, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:  # ValueError: a path with a null byte
            reason = getattr(error, "strerror", None) or error
            raise AudioError(f"audio: cannot read {os.fspath(source)!r}: {reason}") from error
    elif hasattr(source, "read"):
        data = source.read()
        if not isinstance(data, bytes):
            raise AudioError("audio: the file object gives text; open it in binary mode, 'rb'")
    elif isinstance(source, np.ndarray):
        raise AudioError("audio: an array needs its rate: pass (array, sample_rate)")
    else:
        raise AudioError(
            "audio: must be a path, bytes, a binary file object or (array, sample_rate), "
            f"not {type(source).__name__}"
        )
    if len(data) > MAX_BYTES:
        raise AudioError(f"audio: is longer than {MAX_BYTES} bytes, more than gRPC can carry")
    return data


def _array_to_wav(source: tuple[Any, ...]) -> bytes:
    if len(source) != 2:
        raise AudioError(f"audio: must be (array, sample_rate), not a tuple of {len(source)}")
    array, rate = np.asarray(source[0]), source[1]
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or rate <= 0:
        raise AudioError(f"audio: the rate must be a whole number of Hz, not {shown(rate)}")
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or array.size == 0:
        raise AudioError(
            f"audio: an array must be [channels, samples] or [samples] and not empty, not of "
            f"shape {list(np.shape(source[0]))}"
        )
    if array.shape[0] > 32:
        raise AudioError(
            f"audio: shape {list(array.shape)} reads as {array.shape[0]} channels; an array is "
            "[channels, samples]: transpose it"
        )
    subtype = _WAV_SUBTYPES.get(array.dtype.name)
    if subtype is None:
        allowed = ", ".join(_WAV_SUBTYPES)
        raise AudioError(f"audio: an array must be of {allowed}, not {array.dtype.name}")
    return _write(array.T, int(rate), "WAV", subtype)


def _decode_lossless(data: bytes) -> tuple[npt.NDArray[np.float32], int]:
    """-> float32 `[samples, channels]` and the rate."""
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioError(f"audio: cannot be decoded: {error}") from error
    return samples, int(rate)


def _decode_with_av(data: bytes, max_seconds: float) -> tuple[npt.NDArray[np.float32], int]:
    """-> float32 `[samples, channels]` and the rate; more than two channels are mixed to stereo."""
    try:
        import av
    except ImportError as error:
        raise AudioError(
            "audio: is neither WAV nor FLAC; other formats (MP3, M4A, OGG, video) need PyAV: "
            'pip install "melodyflow-client[av]"'
        ) from error
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
    blocks: list[npt.NDArray[np.float32]] = []
    size = samples = 0
    try:
        with av.open(io.BytesIO(data), "r", options=options) as container:
            if not container.streams.audio:
                raise AudioError("audio: the file has no sound track")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise AudioError("audio: FFmpeg knows no decoder for its sound track")
            layout = "mono" if stream.codec_context.channels == 1 else "stereo"
            rate = int(stream.codec_context.sample_rate)
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
            for frame in itertools.chain(container.decode(stream), [None]):  # None flushes
                for block in resampler.resample(frame):
                    blocks.append(block.to_ndarray().astype(np.float32, copy=False))
                    size += blocks[-1].nbytes
                    samples += blocks[-1].shape[1]
                _check_length(samples, rate, max_seconds)
                if size > MAX_BYTES:
                    raise AudioError("audio: is too long when decoded; cut it first")
    except av.error.FFmpegError as error:
        reason = error.strerror or error
        raise AudioError(f"audio: is no sound that can be decoded: {reason}") from error
    if not blocks:
        raise AudioError("audio: holds no samples")
    return np.concatenate(blocks, axis=1).T, rate


def _encode(samples: npt.NDArray[np.float32], rate: int) -> bytes:
    """FLAC (24 bit) where its range holds the samples; float WAV beyond, so that nothing clips."""
    fits = bool(np.max(np.abs(samples), initial=0.0) <= 1.0) and samples.shape[1] <= 8
    if fits and rate <= 655_350:
        # By hand: soundfile would scale by 2^23 - 1 and read back by 2^23, so that 16- and 24-bit
        # sources would not keep their values.
        whole = np.clip(np.round(samples.astype(np.float64) * 2**23), -(2**23), 2**23 - 1)
        return _write(whole.astype(np.int32) << 8, rate, "FLAC", "PCM_24")
    return _write(samples, rate, "WAV", "FLOAT")


def _write(samples: npt.NDArray[Any], rate: int, container: str, subtype: str) -> bytes:
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    except (soundfile.SoundFileError, ValueError) as error:
        raise AudioError(f"audio: cannot be written as {container}: {error}") from error
    return buffer.getvalue()


def _check_header(data: bytes, max_seconds: float) -> None:
    try:
        header = soundfile.info(io.BytesIO(data))
    except soundfile.SoundFileError as error:
        raise AudioError(f"audio: cannot be decoded: {error}") from error
    _check_length(header.frames, header.samplerate, max_seconds)


def _check_length(samples: int, rate: int, max_seconds: float) -> None:
    if samples > max_seconds * rate:
        raise AudioError(f"audio: is longer than {max_seconds:g} s, the most that is taken here")


def _clip(data: bytes, max_seconds: float) -> Clip:
    digest = hashlib.sha256()
    samples = 0
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            digest.update(f"{file.samplerate} {file.channels} ".encode())
            for block in file.blocks(_BLOCK_FRAMES, dtype="float32", always_2d=True):
                samples += len(block)
                _check_length(samples, file.samplerate, max_seconds)
                block += np.float32(0)  # -0 and 0 are one silence
                digest.update(block.astype("<f4", copy=False).tobytes())
            rate, channels = int(file.samplerate), int(file.channels)
    except soundfile.SoundFileError as error:
        raise AudioError(f"audio: cannot be decoded: {error}") from error
    if len(data) > MAX_BYTES:
        raise AudioError(f"audio: takes {len(data)} bytes, more than gRPC can carry")
    return Clip(data, digest.hexdigest(), rate, channels, samples)
