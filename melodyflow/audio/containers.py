"""WAV and FLAC: a file's header, its samples, and the way back; bytes in memory only.

WAV is read and written here, so that a header can be judged before anything is decoded and the
same samples always give the same bytes; FLAC goes through libsndfile, its header and its checksum
are read here. A waveform is float32 `[channels, samples]`, full scale at 1.0.
"""

import hashlib
import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from melodyflow.audio.errors import AudioError, show
from melodyflow.audio.waveform import Waveform

BLOCK = 1 << 16  # sample frames decoded at once
MAX_CHUNKS = 1000  # WAV chunks before the samples; a file of empty ones must not keep us busy

# WAV: (format tag, bits) -> (name as in soundfile, numpy type of a stored sample, 1/full scale)
WAV_SUBTYPES = {
    (1, 16): ("PCM_16", "<i2", 2.0**-15),
    (1, 24): ("PCM_24", "u1", 2.0**-31),  # widened to 32 bits, see _pcm24
    (1, 32): ("PCM_32", "<i4", 2.0**-31),
    (3, 32): ("FLOAT", "<f4", 1.0),
    (3, 64): ("DOUBLE", "<f8", 1.0),
}
WAV_EXTENSIBLE = 0xFFFE
WAV_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# What programs that write to a pipe put where a size cannot be known: all ones, and SoX's own.
UNKNOWN_SIZES = (0xFFFFFFFF, 0x7FFFF000, 0xFFFFFFFFFFFFFFFF)
FLAC_SUBTYPES = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}  # what libsndfile decodes

# RIFF INFO has no tag for a licence; it goes where copyright notices go.
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
class Header:
    """What a file says of itself before a sample is decoded; none of it is to be trusted."""

    channels: int
    sample_rate: int
    bits: int
    samples: int | None  # None: the file does not say
    tag: int = 1  # WAV: 1 integers, 3 floating point
    align: int = 0  # WAV: bytes of a sample frame
    offset: int = 0  # WAV: where the samples begin, in bytes
    md5: bytes = bytes(16)  # FLAC: of the decoded samples; zeros: unknown


def read_header(data: bytes) -> Header:
    """The header of a WAV or FLAC file, told by its content. Raises AudioError."""
    if data[:4] in (b"RIFF", b"RF64"):
        return _wav_header(data)
    if data[:4] == b"fLaC":
        return _flac_header(data)
    begins = f"{len(data)} bytes that begin with {show(data[:8])}" if data else "0 bytes"
    raise AudioError(f"audio: {begins}; a WAV or FLAC file is needed")


def decode(data: bytes, header: Header, most: int) -> tuple[Waveform, str]:
    """All samples `[channels, samples]` and how they were stored, as soundfile names it.

    What the header announced must be there. FLAC is given up one block after `most` samples;
    the caller refuses what is longer. Values may be NaN or infinite. Raises AudioError.
    """
    return _decode_flac(data, header, most) if data[:4] == b"fLaC" else _decode_wav(data, header)


def _wav_header(data: bytes) -> Header:
    """Walk the chunks up to the samples. RF64 (EBU 3306) keeps its 64-bit sizes in `ds64`."""
    if data[8:12] != b"WAVE":
        raise AudioError(f"audio: RIFF of type {show(data[8:12])}; a WAV or FLAC file is needed")
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
                f"audio: truncated: WAV chunk {show(name)} announces {size} bytes, "
                f"{len(data) - position} are there"
            )
        body = data[position : position + min(size, 40)]
        if name == b"fmt " and layout is None:
            layout = _wav_layout(body)
        elif name == b"ds64" and size >= 16:
            long_sizes = struct.unpack_from("<QQ", body)
        position += size + size % 2  # chunks begin at even positions
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
            f"audio: truncated: the WAV header announces {size} bytes of samples, {there} are there"
        )
    tag, channels, rate, align, bits = layout
    # channels may still be 0 here; that is refused, by name, with the limits
    samples = size // (channels * bits // 8 or 1)
    return Header(channels, rate, bits, samples, tag, align, position)


def _wav_layout(body: bytes) -> tuple[int, int, int, int, int]:
    """The fmt chunk: (format tag, channels, sample rate, block align, bits)."""
    if len(body) < 16:
        raise AudioError(f"audio: WAV fmt chunk of {len(body)} bytes; at least 16 are needed")
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", body)
    if tag == WAV_EXTENSIBLE and body[26:40] == WAV_GUID_TAIL:
        tag = int.from_bytes(body[24:26], "little")
    if (tag, bits) not in WAV_SUBTYPES:
        raise AudioError(
            f"audio: WAV of format {tag:#06x} with {bits} bits; "
            "PCM of 16, 24 or 32 bits and float of 32 or 64 bits are allowed"
        )
    return tag, channels, rate, align, bits


def _decode_wav(data: bytes, header: Header) -> tuple[Waveform, str]:
    subtype, stored, scale = WAV_SUBTYPES[header.tag, header.bits]
    channels, count, width = header.channels, header.samples or 0, header.bits // 8
    if header.align != channels * width:
        raise AudioError(
            f"audio: WAV block align {header.align}; "
            f"{channels} channels of {header.bits} bits make {channels * width}"
        )
    samples = np.empty((channels, count), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
        for begin in range(0, count, BLOCK):
            end = min(begin + BLOCK, count)
            values: npt.NDArray[Any] = np.frombuffer(
                data,
                stored,
                count=(end - begin) * channels * width // np.dtype(stored).itemsize,
                offset=header.offset + begin * channels * width,
            )
            if subtype == "PCM_24":
                values = _pcm24(values)
            samples[:, begin:end] = values.reshape(-1, channels).T
        samples *= np.float32(scale)  # a power of two: exact
    return samples, subtype


def _pcm24(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """uint8 triples -> int32 with the 24 bits on top."""
    wide = np.zeros((packed.size // 3, 4), np.uint8)
    wide[:, 1:] = packed.reshape(-1, 3)
    return wide.view(np.dtype("<i4"))


def _flac_header(data: bytes) -> Header:
    """The STREAMINFO block (RFC 9639, section 8.2), always the first one."""
    if len(data) < 42 or data[4] & 0x7F != 0 or data[5:8] != b"\0\0\x22":
        raise AudioError(f"audio: FLAC of {len(data)} bytes without a STREAMINFO block")
    packed = int.from_bytes(data[18:26], "big")
    bits = (packed >> 36 & 0x1F) + 1
    if bits not in FLAC_SUBTYPES:
        raise AudioError(f"audio: FLAC of {bits} bits; 8, 16 and 24 are allowed")
    total = packed & (1 << 36) - 1
    channels = (packed >> 41 & 0x7) + 1
    return Header(channels, packed >> 44, bits, total or None, md5=data[26:42])


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file read from start to end: soundfile seeks after each read of a seekable one, which
    decodes FLAC twice and fails where the total is unknown."""

    def seekable(self) -> bool:
        return False


def _decode_flac(data: bytes, header: Header, most: int) -> tuple[Waveform, str]:
    """Decode until the end or one block over `most`, and hold it to the file's own checksum."""
    blocks = []
    count = 0
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with _Stream(io.BytesIO(data)) as stream:
            if (stream.channels, stream.samplerate) != (header.channels, header.sample_rate):
                raise AudioError("audio: FLAC with two STREAMINFO blocks that differ")
            while count <= most:
                block = stream.read(BLOCK, dtype="int32", always_2d=True)
                count += len(block)
                digest.update(_packed(block, header.bits))
                blocks.append(block.T.astype(np.float32))
                if len(block) < BLOCK:
                    break
    except soundfile.SoundFileError as error:
        # error_string: the exception's own text holds the address of an object
        cause = getattr(error, "error_string", error)
        raise AudioError(f"audio: broken or truncated FLAC ({cause})") from error
    if count <= most:
        if header.samples is not None and count != header.samples:
            raise AudioError(
                f"audio: truncated: the FLAC header announces {header.samples} samples, "
                f"{count} are there"
            )
        if any(header.md5) and digest.digest() != header.md5:
            raise AudioError("audio: broken or truncated FLAC (its MD5 checksum does not hold)")
    samples = np.concatenate(blocks, axis=1)
    samples *= np.float32(2.0**-31)  # a power of two: exact
    return samples, FLAC_SUBTYPES[header.bits]


def _packed(samples: npt.NDArray[np.int32], bits: int) -> bytes:
    """int32 with the bits on top -> little-endian samples of `bits`, as FLAC's MD5 is made of."""
    return _octets(samples)[:, 4 - bits // 8 :].tobytes()


def _blocks(waveform: Waveform) -> Iterator[Waveform]:
    """The samples `[channels, <= BLOCK]`, one block after the other: what is made of all at once
    would take several times their memory."""
    for begin in range(0, waveform.shape[1], BLOCK):
        yield waveform[:, begin : begin + BLOCK]


def _integers(waveform: Waveform, bits: int) -> npt.NDArray[np.int32]:
    """float -> int32 `[samples, channels]`, the inverse of x / 2**(bits-1), clipped."""
    full = np.float32(2.0 ** (bits - 1))
    values: Waveform = np.rint(waveform.T.astype(np.float32, copy=False) * full)
    np.clip(values, -full, full - 1, out=values)
    return values.astype(np.int32, order="C")


def encode_wav(
    waveform: Waveform, sample_rate: int, tag: int, bits: int, comments: Mapping[str, str]
) -> bytes:
    """A WAV of a `tag` and `bits` of WAV_SUBTYPES (16 or 24 bit integers, 32 bit float), with
    `comments` (keys of INFO_TAGS) as LIST/INFO in UTF-8. Integers are clipped at full scale."""
    channels, align = waveform.shape[0], waveform.shape[0] * bits // 8
    length = waveform.shape[1] * align
    layout = struct.pack("<HHIIHH", tag, channels, sample_rate, sample_rate * align, align, bits)
    layout += b"" if tag == 1 else b"\0\0"  # the size of an extension: none
    info: dict[bytes, str] = {}
    for name, text in comments.items():
        key = INFO_TAGS[name]
        info[key] = f"{info[key]}; {text}" if key in info else text
    tags = b"".join(_chunk(key, text.encode() + b"\0") for key, text in info.items())
    before = _chunk(b"fmt ", layout)
    if tag == 3:
        before += _chunk(b"fact", struct.pack("<I", waveform.shape[1]))  # asked for when not PCM
    before += b"data" + struct.pack("<I", length)
    # at the end, so that PCM begins at byte 44, where simple readers expect it
    after = b"\0" * (length % 2) + (_chunk(b"LIST", b"INFO" + tags) if tags else b"")
    size = 4 + len(before) + length + len(after)
    if size >= UNKNOWN_SIZES[1]:  # above, readers take sizes for negative or unknown
        raise AudioError(f"format: {size} bytes do not fit into WAV; flac is smaller")
    file = io.BytesIO()
    file.write(b"RIFF" + struct.pack("<I", size) + b"WAVE" + before)
    for block in _blocks(waveform):
        file.write(_stored(block, tag, bits))
    file.write(after)
    return file.getvalue()


def _stored(waveform: Waveform, tag: int, bits: int) -> bytes:
    """The samples as a WAV of that tag and bits holds them."""
    if tag == 3:
        return waveform.T.astype("<f4").tobytes()
    if bits == 16:
        return _integers(waveform, bits).astype("<i2").tobytes()
    return _octets(_integers(waveform, bits))[:, :3].tobytes()


def _octets(integers: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """`[values, 4]`, the lowest first."""
    return np.ascontiguousarray(integers, "<i4").view(np.uint8).reshape(-1, 4)


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def encode_flac(waveform: Waveform, sample_rate: int, comments: Mapping[str, str]) -> bytes:
    """A FLAC of 24 bits, clipped at full scale, with `comments` (keys of INFO_TAGS). libsndfile
    appends its own name to `software`, and cuts that one comment at 127 bytes."""
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", sample_rate, waveform.shape[0], subtype="PCM_24", format="FLAC"
    ) as stream:
        for name, text in comments.items():
            setattr(stream, name, text)
        for block in _blocks(waveform):
            stream.write(_integers(block, 24) << 8)  # libsndfile takes the upper 24 of 32 bits
    return file.getvalue()
