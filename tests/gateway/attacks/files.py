"""Audio files that cost whoever reads them more than whoever sends them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import soundfile

_COVER = 12000  # pixels, each way


def wav(seconds: float, pitch: float = 220.0, rate: int = 44100) -> bytes:
    """An honest clip: a tone in stereo."""
    buffer = io.BytesIO()
    tone = 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    soundfile.write(buffer, np.stack([tone, tone], 1), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def encoded(kind: str, codec: str, seconds: int, rate: int, channels: int) -> bytes:
    """A file of silence that unpacks to far more than it is."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        layout = "stereo" if channels == 2 else "7.1"
        stream = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        sample_format = stream.codec_context.codec.audio_formats[0].name
        block = av.AudioFrame(format=sample_format, layout=layout, samples=1024)
        for plane in block.planes:
            plane.update(bytes(plane.buffer_size))
        block.sample_rate = rate
        for number in range(seconds * rate // 1024):
            block.pts = number * 1024
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def m4a_with_a_large_cover() -> bytes:
    """A second of AAC under a picture that unpacks to 400 MiB."""
    file = encoded("ipod", "aac", 1, 44100, 2)
    at = file.index(b"moov") - 4  # the last box: what is in it may grow
    size = int.from_bytes(file[at : at + 4], "big")
    picture = _box(b"covr", _box(b"data", struct.pack(">II", 14, 0) + _png()))
    handler = _box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    tags = _box(b"udta", _box(b"meta", bytes(4) + handler + _box(b"ilst", picture)))
    movie = file[at + 8 : at + size].replace(b"udta", b"free")  # its own tags
    return file[:at] + _box(b"moov", movie + tags) + file[at + size :]


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def _png() -> bytes:
    packing = zlib.compressobj(1)
    row = bytes(1 + 3 * _COVER)
    pixels = b"".join(packing.compress(row) for _ in range(_COVER)) + packing.flush()
    header = struct.pack(">IIBBBBB", _COVER, _COVER, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
