"""WAV and RF64 (EBU 3306), read and written by hand, so that a header can be checked before
anything is decoded and the same samples always give the same bytes."""

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from melodyflow.audio.containers.header import Header
from melodyflow.audio.containers.pcm import BLOCK, blocks, integers, octets
from melodyflow.audio.waveform import Waveform
from melodyflow.errors import AudioError, quoted

MAX_CHUNKS = 1000  # WAV chunks before the samples; a file full of empty ones must not tie us up

# (format tag, bits) -> (name as in soundfile, numpy type of a stored sample, 1/full scale)
SUBTYPES = {
    (1, 16): ("PCM_16", "<i2", 2.0**-15),
    (1, 24): ("PCM_24", "u1", 2.0**-31),  # widened to 32 bits, see _pcm24
    (1, 32): ("PCM_32", "<i4", 2.0**-31),
    (3, 32): ("FLOAT", "<f4", 1.0),
    (3, 64): ("DOUBLE", "<f8", 1.0),
}
EXTENSIBLE = 0xFFFE
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# Written by programs that stream to a pipe and can't know the size: all ones, and SoX's own value.
UNKNOWN_SIZES = (0xFFFFFFFF, 0x7FFFF000, 0xFFFFFFFFFFFFFFFF)

# RIFF INFO has no tag for a licence; it goes with the copyright notice.
INFO_TAGS = {
    "title": b"INAM",
    "artist": b"IART",
    "album": b"IPRD",
    "comment": b"ICMT",
    "copyright": b"ICOP",
    "license": b"ICOP",
    "date": b"ICRD",
    "genre": b"IGNR",
    "software": b"ISFT",
    "tracknumber": b"ITRK",
}


@dataclass(frozen=True)
class WavHeader(Header):
    """The header of a WAV or RF64 file."""

    tag: int  # 1: integers, 3: floating point
    align: int  # bytes per sample frame
    offset: int  # where the samples start, in bytes

    def decode(self, data: bytes, most: int, check: Callable[[], None]) -> tuple[Waveform, str]:
        subtype, stored, scale = SUBTYPES[self.tag, self.bits]
        channels, count, width = self.channels, self.samples or 0, self.bits // 8
        if self.align != channels * width:
            raise AudioError(
                f"audio: WAV block align {self.align}; must be {channels * width} for "
                f"{channels} channels of {self.bits} bits; the client package corrects it"
            )
        samples = np.empty((channels, count), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses non-finite samples
            for begin in range(0, count, BLOCK):
                check()
                end = min(begin + BLOCK, count)
                values: npt.NDArray[Any] = np.frombuffer(
                    data,
                    stored,
                    count=(end - begin) * channels * width // np.dtype(stored).itemsize,
                    offset=self.offset + begin * channels * width,
                )
                if subtype == "PCM_24":
                    values = _pcm24(values)
                samples[:, begin:end] = values.reshape(-1, channels).T
            samples *= np.float32(scale)  # a power of two: exact
        return samples, subtype


def read_header(data: bytes) -> WavHeader:
    """Walks the chunks up to the samples. RF64 (EBU 3306) keeps its 64-bit sizes in `ds64`."""
    if data[8:12] != b"WAVE":
        raise AudioError(f"audio: RIFF of type {quoted(data[8:12])}; expected a WAV or FLAC file")
    riff_size = int.from_bytes(data[4:8], "little")
    long_sizes = None
    layout = None
    position = 12
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            raise AudioError("audio: WAV without a data chunk; is the file complete?")
        name = data[position : position + 4]
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8
        if name == b"data":
            break
        if position + size > len(data):
            raise AudioError(
                f"audio: truncated: WAV chunk {quoted(name)} claims {size} bytes, but the file has "
                f"only {len(data) - position} more"
            )
        body = data[position : position + min(size, 40)]
        if name == b"fmt " and layout is None:
            layout = _layout(body)
        elif name == b"ds64" and size >= 16:
            long_sizes = struct.unpack_from("<QQ", body)
        position += size + size % 2  # chunks start at even positions
    else:
        raise AudioError(f"audio: more than {MAX_CHUNKS} WAV chunks before the samples")
    if layout is None:
        raise AudioError("audio: WAV without a fmt chunk before its samples")
    if data[:4] == b"RF64":
        if long_sizes is None:
            raise AudioError("audio: RF64 without a ds64 chunk")
        riff_size, size = long_sizes[0], long_sizes[1] if size == 0xFFFFFFFF else size
    there = len(data) - position
    never_told = riff_size == 0 or riff_size in UNKNOWN_SIZES
    if size in UNKNOWN_SIZES or (never_told and (size == 0 or size > there)):
        size = there
    if size > there:
        raise AudioError(
            f"audio: truncated: the WAV header says {size} bytes of samples, but the file has "
            f"{there}; send the whole file, or let the client package take what is there"
        )
    if size == 0 < there and not _is_chunk(data, position):
        raise AudioError(
            f"audio: the WAV header says 0 bytes of samples, but {there} follow; write the size, "
            "or let the client package do it"
        )
    tag, channels, rate, align, bits = layout
    # channels may still be 0 here; the limits check refuses that
    samples = size // (channels * bits // 8 or 1)
    return WavHeader(channels, rate, bits, samples, tag, align, position)


def _is_chunk(data: bytes, position: int) -> bool:
    """Whether a chunk begins there that ends within the file."""
    size = int.from_bytes(data[position + 4 : position + 8], "little")
    return data[position : position + 4].isalnum() and position + 8 + size <= len(data)


def _layout(body: bytes) -> tuple[int, int, int, int, int]:
    """The fmt chunk: (format tag, channels, sample rate, block align, bits)."""
    if len(body) < 16:
        raise AudioError(f"audio: WAV fmt chunk of {len(body)} bytes; needs at least 16")
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", body)
    if tag == EXTENSIBLE and body[26:40] == GUID_TAIL:
        tag = int.from_bytes(body[24:26], "little")
    if (tag, bits) not in SUBTYPES:
        raise AudioError(
            f"audio: WAV format {tag:#06x} with {bits} bits; "
            "16, 24 and 32-bit PCM and 32 and 64-bit float are allowed; the client package "
            "converts the others"
        )
    return tag, channels, rate, align, bits


def _pcm24(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """uint8 triples -> int32 with the 24 bits on top."""
    wide = np.zeros((packed.size // 3, 4), np.uint8)
    wide[:, 1:] = packed.reshape(-1, 3)
    return wide.view(np.dtype("<i4"))


def encode(
    waveform: Waveform, sample_rate: int, tag: int, bits: int, comments: Mapping[str, str]
) -> bytes:
    """Encodes WAV with a `tag` and `bits` of SUBTYPES (16 or 24-bit integers, 32-bit float) and
    `comments` (keys of INFO_TAGS) as LIST/INFO in UTF-8. Integers are clipped at full scale."""
    channels, align = waveform.shape[0], waveform.shape[0] * bits // 8
    length = waveform.shape[1] * align
    layout = struct.pack("<HHIIHH", tag, channels, sample_rate, sample_rate * align, align, bits)
    layout += b"" if tag == 1 else b"\0\0"  # the extension's size: none
    info: dict[bytes, str] = {}
    for name, text in comments.items():
        key = INFO_TAGS[name]
        info[key] = f"{info[key]}; {text}" if key in info else text
    tags = b"".join(_chunk(key, text.encode() + b"\0") for key, text in info.items())
    before = _chunk(b"fmt ", layout)
    if tag == 3:
        before += _chunk(b"fact", struct.pack("<I", waveform.shape[1]))  # required if not PCM
    before += b"data" + struct.pack("<I", length)
    # at the end, so that PCM starts at byte 44, where simple readers expect it
    after = b"\0" * (length % 2) + (_chunk(b"LIST", b"INFO" + tags) if tags else b"")
    size = 4 + len(before) + length + len(after)
    if size >= UNKNOWN_SIZES[1]:  # above, readers take sizes for negative or unknown
        raise AudioError(f"format: {size} bytes do not fit into WAV; flac is smaller")
    file = io.BytesIO()
    file.write(b"RIFF" + struct.pack("<I", size) + b"WAVE" + before)
    for block in blocks(waveform):
        file.write(_stored(block, tag, bits))
    file.write(after)
    return file.getvalue()


def _stored(waveform: Waveform, tag: int, bits: int) -> bytes:
    """The samples as a WAV with that tag and bits stores them."""
    if tag == 3:
        return waveform.T.astype("<f4").tobytes()
    if bits == 16:
        return integers(waveform, bits).astype("<i2").tobytes()
    return octets(integers(waveform, bits))[:, :3].tobytes()


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
