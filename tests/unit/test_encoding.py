"""Audio arrives as it is or as strict base64; what is neither is refused, with the place."""

import base64

import numpy as np
import pytest

from melodyflow.audio import Limits
from melodyflow.errors import AudioError
from melodyflow.serving.encoding import BASE64_PIECE, unwrap, wrap

from .audio.files import encoded, noise

LIMITS = Limits()


def test_unwrap_tells_raw_from_base64():
    wav, flac = encoded(noise()), encoded(noise(), format="FLAC")
    for file in (wav, flac):
        text = base64.b64encode(file)
        assert unwrap(file, None, LIMITS) == (file, "raw")
        assert unwrap(file, "raw", LIMITS) == (file, "raw")
        assert unwrap(text, None, LIMITS) == (file, "base64")
        assert unwrap(text, "base64", LIMITS) == (file, "base64")
        assert wrap(file, "raw") == file
        assert wrap(file, "base64") == text


@pytest.mark.parametrize(
    ("payload", "encoding", "words"),
    [
        (b"", None, "audio: 0 bytes"),
        (b"", "raw", "audio: 0 bytes"),
        (b"UklG", "hex", "encoding: 'hex'; must be 'raw' or 'base64'"),
        (b"UklG\nUklG", None, "encoding: a line break at byte 4 .* without line breaks"),
        (b"UklG UklG", "base64", "encoding: ' ' at byte 4"),
        (b"UklG-_==", None, "encoding: '-' at byte 4"),
        (b"ID3\x03abc", None, r"encoding: '\\x03' at byte 3"),
        (b"UklGR", None, "encoding: audio of 5 bytes is broken base64"),
        (b"UklGR=", None, "broken base64"),
        (b"Ukl=UklG", None, "broken base64"),
        (b"UklGRg==UklG", None, "broken base64"),
        (b"====", None, "broken base64"),
        (b"UklG=", None, "broken base64"),
        (b"UklG====", None, "broken base64"),
        (b"data:audio/wav;base64,UklG", None, "audio: starts with 'data:audio/wav;base64'.*remove"),
        (b"base64_encoded_audio_data", None, "audio: the placeholder"),
        (b"base64_encoded_audio_data", "base64", "audio: the placeholder"),
    ],
)
def test_unwrap_refuses(payload, encoding, words):
    with pytest.raises(AudioError, match=words):
        unwrap(payload, encoding, LIMITS)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 3000, 3001, 3002])
def test_base64_in_several_pieces(size):
    """The last piece is one group, or as full as the others: 3 bytes are 4 characters."""
    size += BASE64_PIECE // 4 * 3 * 2 - 3000
    file = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    assert unwrap(base64.b64encode(file), "base64", LIMITS) == (file, "base64")


@pytest.mark.parametrize("at", [-5, -1, 0, 1, 5])  # beside the seam of two pieces
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (b"\n", "encoding: a line break at byte {at} of .* without line breaks"),
        (b"-", "encoding: '-' at byte {at} of audio"),
        (b"=", "encoding: audio of {length} bytes is broken base64"),
        (b"==", "encoding: audio of {length} bytes is broken base64"),
        (b"====", "encoding: audio of {length} bytes is broken base64"),
    ],
)
def test_broken_base64_in_several_pieces(at, fault, words):
    at += BASE64_PIECE
    text = bytearray(b"A" * (2 * BASE64_PIECE + 4))
    text[at : at + len(fault)] = fault
    with pytest.raises(AudioError, match=words.format(at=at, length=len(text))):
        unwrap(bytes(text), "base64", LIMITS)


@pytest.mark.parametrize(
    "end", [b"A", b"AA", b"AAA", b"A=", b"AA=", b"A===", b"=", b"====", b"AA=A"]
)
def test_a_broken_last_piece_of_base64(end):
    text = b"A" * BASE64_PIECE + end
    with pytest.raises(AudioError, match=f"audio of {len(text)} bytes is broken base64"):
        unwrap(text, "base64", LIMITS)


def test_unwrap_holds_the_decoded_size_to_the_limit():
    limits = Limits(max_bytes=100)
    for size in (98, 99, 100):
        text = base64.b64encode(bytes(size))
        assert len(unwrap(text, None, limits)[0]) == size
    for payload, encoding in ((base64.b64encode(bytes(101)), None), (bytes(101), "raw")):
        with pytest.raises(AudioError, match="audio: 101 bytes; at most 100 are allowed"):
            unwrap(payload, encoding, limits)
    with pytest.raises(AudioError, match="at most"):  # before a character of it is looked at
        unwrap(b"!" * 1000, "base64", limits)
