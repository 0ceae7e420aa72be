"""Sounds, and files of them: by libsndfile, by FFmpeg (PyAV), and by hand what neither writes."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

Samples = npt.NDArray[Any]  # [frames, channels]

RATE = 44100
FRAMES = 11_003


def sound(channels: int = 2, frames: int = FRAMES, seed: int = 7) -> Samples:
    """int16 noise without its highest notes, which lossy coders leave out; channels differ."""
    noise = np.random.default_rng(seed).normal(size=(frames + 63, channels))
    smooth = np.stack([np.convolve(c, np.hanning(64), "valid") for c in noise.T], 1)
    return np.round(smooth / np.abs(smooth).max() * 20_000).astype(np.int16)


def float32(samples: Samples) -> npt.NDArray[np.float32]:
    """Full scale at 1.0."""
    scale = {"int16": 2.0**-15, "int32": 2.0**-31}.get(samples.dtype.name, 1.0)
    return samples.astype(np.float32) * np.float32(scale)


def encoded(container: str, subtype: str | None = None, samples: Samples | None = None) -> bytes:
    """By libsndfile, at RATE."""
    buffer = io.BytesIO()
    samples = sound() if samples is None else samples
    if subtype in ("FLOAT", "DOUBLE"):
        samples = float32(samples)
    soundfile.write(buffer, samples, RATE, format=container, subtype=subtype)
    return buffer.getvalue()


def with_av(
    container: str,
    codec: str,
    tracks: Sequence[Samples] = (),
    *,
    rate: int = RATE,
    layout: str | None = None,
    options: dict[str, str] | None = None,
    default: int | None = None,
    title: bytes = b"",
    **stream_options: Any,
) -> bytes:
    """By FFmpeg: int16 tracks at `rate`. default: the number of the default track.
    title: of the file."""
    import av

    with (
        tempfile.NamedTemporaryFile() as file,  # some containers are rewritten at their end
        av.open(file.name, "w", format=container, options=options or {}) as out,
    ):
        if title:
            out.metadata["title"] = title.decode()
        streams = []
        for number, samples in enumerate(tracks or [sound()]):
            name = layout or {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
            stream = out.add_stream(codec, rate=rate, layout=name, **stream_options)
            if codec == "wavpack":  # which would have 8 bits
                stream.codec_context.format = av.AudioFormat("s16p")
            if default is not None:
                stream.disposition = 1 if number == default else 0
            streams.append((stream, samples, name))
        for stream, samples, name in streams:
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", name)
            frame.sample_rate = rate
            frame.time_base, frame.pts = Fraction(1, rate), 0
            size = stream.codec_context.frame_size or 4096
            resampler = av.AudioResampler(
                stream.codec_context.format.name, name, rate, frame_size=size
            )
            for item in [*resampler.resample(frame), *resampler.resample(None)]:
                out.mux(stream.encode(item))
            out.mux(stream.encode(None))
        out.close()
        return Path(file.name).read_bytes()


def ffmpeg_decodes(data: bytes) -> tuple[Samples, int]:
    """float32 `[frames, channels]` and the rate, as FFmpeg alone decodes a clean file."""
    import av

    with av.open(io.BytesIO(data), metadata_errors="ignore") as container:
        frames = [
            (float32(array.T), frame.sample_rate)
            for frame in container.decode(audio=0)
            for array in [
                frame.to_ndarray()
                if frame.format.is_planar
                else frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T
            ]
        ]
    return np.concatenate([array for array, _ in frames]), frames[0][1]


# Containers by hand


def chunk(name: bytes, body: bytes, size: int | None = None, order: str = "<") -> bytes:
    told = len(body) if size is None else size
    return name + struct.pack(order + "I", told & 0xFFFFFFFF) + body + b"\0" * (len(body) % 2)


def fmt(
    channels: int = 2,
    bits: int = 16,
    tag: int = 1,
    *,
    align: int | None = None,
    rate: int = RATE,
    extension: bytes = b"",
) -> bytes:
    align = channels * -(-bits // 8) if align is None else align
    return chunk(
        b"fmt ",
        struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
        + extension,
    )


GUID = bytes.fromhex("000000001000800000aa00389b71")
AMBISONIC = bytes.fromhex("00002107d3118644c8c1ca000000")


def extensible(
    channels: int, bits: int, mask: int, tag: int = 1, valid: int | None = None, tail: bytes = GUID
) -> bytes:
    extension = struct.pack("<HHIH", 22, bits if valid is None else valid, mask, tag) + tail
    return fmt(channels, bits, 0xFFFE, extension=extension)


def riff(*chunks: bytes, name: bytes = b"RIFF", size: int | None = None) -> bytes:
    return chunk(name, b"WAVE" + b"".join(chunks), size)


def wav(samples: Samples | None = None, size: int | None = None, behind: bytes = b"") -> bytes:
    samples = sound() if samples is None else samples
    data = samples.astype("<i2").tobytes()
    return riff(fmt(samples.shape[1]), chunk(b"data", data, size), behind)


def packed(samples: Samples, width: int, *, big: bool = False) -> bytes:
    """int16 samples, in the highest bits of `width` bytes."""
    wide = (samples.astype("<i4") << 16).view(np.uint8).reshape(*samples.shape, 4)[..., 4 - width :]
    return (wide[..., ::-1] if big else wide).tobytes()


# Of each container, how the size of its samples is written, and where.
SIZES: dict[str, tuple[str, Callable[[bytes], int]]] = {
    "WAV": ("<I", lambda data: data.index(b"data") + 4),
    "RF64": ("<Q", lambda data: data.index(b"ds64") + 16),
    "W64": ("<Q", lambda data: data.index(b"data\xf3\xac") + 16),
    "AIFF": (">I", lambda data: data.index(b"SSND") + 4),
    "CAF": (">Q", lambda data: data.index(b"data") + 4),
    "AU": (">I", lambda data: 8),
}


def put_size(data: bytes, layout: str, position: int, size: int) -> bytes:
    """The file with a size of that layout written at a position, as many of its bits as fit."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, position, size & 2 ** (8 * struct.calcsize(layout)) - 1)
    return bytes(changed)


def id3v2(size: int) -> bytes:
    sizes = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + sizes + b"RIFF\xff\xfb"[:size].ljust(size, b"\0")


def id3v1() -> bytes:
    return b"TAG" + "Für Elise".encode("latin-1").ljust(125, b"\0")


def ape() -> bytes:
    item = struct.pack("<II", 4, 0) + b"Title\0" + b"Riff"
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)
        for flags in (0xA0000000, 0x80000000)
    )
    return head + item + foot


def lyrics3() -> bytes:
    body = b"LYRICSBEGININD0000211" + b"LYR00021[00:01]A line of words"
    return body + b"%06dLYRICS200" % len(body)


def ogg_pages(data: bytes) -> list[bytes]:
    pages = []
    start = 0
    while data[start : start + 4] == b"OggS":
        count = data[start + 26]
        size = 27 + count + sum(data[start + 27 : start + 27 + count])
        pages.append(data[start : start + size])
        start += size
    return pages
