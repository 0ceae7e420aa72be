"""FLAC (RFC 9639). libsndfile decodes and encodes it; the header and checksum are checked here,
by hand: a library that reads them has already begun to decode."""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile

from melodyflow.audio.containers.header import Header
from melodyflow.audio.containers.pcm import BLOCK, blocks, integers, octets
from melodyflow.audio.waveform import Waveform
from melodyflow.errors import AudioError

SUBTYPES = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}  # the depths libsndfile decodes


@dataclass(frozen=True)
class FlacHeader(Header):
    """FLAC's STREAMINFO block."""

    md5: bytes  # of the decoded samples; all zeros if unknown

    def decode(self, data: bytes, most: int, check: Callable[[], None]) -> tuple[Waveform, str]:
        """Decodes to the total that the header tells (what follows is no part of the sound) or to
        the end, at most one block past `most`, and verifies the file's checksum."""
        parts = []
        count = 0
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with _Stream(io.BytesIO(data)) as stream:
                if (stream.channels, stream.samplerate) != (self.channels, self.sample_rate):
                    raise AudioError("audio: FLAC with two different STREAMINFO blocks")
                while count <= most and count != self.samples:
                    check()
                    asked = BLOCK if self.samples is None else min(BLOCK, self.samples - count)
                    block = stream.read(asked, dtype="int32", always_2d=True)
                    count += len(block)
                    digest.update(_packed(block, self.bits))
                    parts.append(block.T.astype(np.float32))
                    if len(block) < asked:
                        break
        except soundfile.SoundFileError as error:
            # error_string: the exception's own text contains an object's address
            cause = getattr(error, "error_string", error)
            raise AudioError(f"audio: broken or truncated FLAC ({cause})") from error
        if count <= most:
            if self.samples is not None and count != self.samples:
                raise AudioError(
                    f"audio: truncated: the FLAC header says {self.samples} samples, but the file "
                    f"has {count}; send the whole file, or let the client package take "
                    "what is there"
                )
            if any(self.md5) and digest.digest() != self.md5:
                raise AudioError("audio: broken or truncated FLAC (MD5 checksum mismatch)")
        samples = np.concatenate(parts, axis=1)
        samples *= np.float32(2.0**-31)  # a power of two: exact
        return samples, SUBTYPES[self.bits]


def read_header(data: bytes) -> FlacHeader:
    """Reads the STREAMINFO block (RFC 9639, section 8.2), which always comes first."""
    if len(data) < 42 or data[4] & 0x7F != 0 or data[5:8] != b"\0\0\x22":
        raise AudioError(f"audio: FLAC of {len(data)} bytes without a STREAMINFO block")
    packed = int.from_bytes(data[18:26], "big")
    bits = (packed >> 36 & 0x1F) + 1
    if bits not in SUBTYPES:
        raise AudioError(
            f"audio: FLAC with {bits} bits; 8, 16 and 24 are allowed; the client package converts "
            "the others"
        )
    total = packed & (1 << 36) - 1
    channels = (packed >> 41 & 0x7) + 1
    return FlacHeader(channels, packed >> 44, bits, total or None, md5=data[26:42])


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file read from start to end. soundfile would seek after each read of a seekable file, which
    decodes FLAC twice and fails if the total length is unknown."""

    def seekable(self) -> bool:
        return False


def _packed(samples: npt.NDArray[np.int32], bits: int) -> bytes:
    """int32 with the bits on top -> little-endian samples of `bits`, which FLAC's MD5 covers."""
    return octets(samples)[:, 4 - bits // 8 :].tobytes()


def encode(waveform: Waveform, sample_rate: int, comments: Mapping[str, str]) -> bytes:
    """Encodes 24-bit FLAC, clipped at full scale, with `comments` (keys of wav.INFO_TAGS).
    libsndfile appends its own name to `software` and cuts that comment at 127 bytes."""
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", sample_rate, waveform.shape[0], subtype="PCM_24", format="FLAC"
    ) as stream:
        for name, text in comments.items():
            setattr(stream, name, text)
        for block in blocks(waveform):
            stream.write(integers(block, 24) << 8)  # libsndfile takes the upper 24 of 32 bits
    return file.getvalue()
