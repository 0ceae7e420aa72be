"""How the tensor `audio` carries a file: its bytes as they are, or base64."""

import binascii
import io
import re

from melodyflow.audio import Limits
from melodyflow.audio.containers import is_known
from melodyflow.errors import AudioError, quoted

ENCODINGS = ("raw", "base64")
BASE64_PIECE = 2**20  # characters that are looked at or decoded at a time; a multiple of 4
PLACEHOLDER = b"base64_encoded_audio_data"  # in the examples of the Flask service's README


def check_encoding(encoding: str) -> str:
    """The encoding itself; raises AudioError where it is none."""
    if encoding not in ENCODINGS:
        raise AudioError(f"encoding: {encoding!r}; 'raw' or 'base64' are allowed")
    return encoding


def unwrap(payload: bytes, encoding: str | None, limits: Limits) -> tuple[bytes, str]:
    """Take an audio file out of the tensor `audio`: (the file's bytes, 'raw' or 'base64').

    `encoding` None: what begins like WAV or FLAC is raw, anything else must be base64 in one
    line. Raises AudioError; `limits.max_bytes` is checked before base64 is decoded.
    """
    if encoding is not None:
        check_encoding(encoding)
    else:
        encoding = "raw" if is_known(payload) else "base64"
    if encoding == "raw":
        file, size = payload, len(payload)
    else:
        size = len(payload) // 4 * 3 - payload[-2:].count(b"=")
    limits.check_bytes(size)
    if encoding == "base64":
        file = _from_base64(payload)
    if not file:
        raise AudioError("audio: 0 bytes; a WAV or FLAC file is needed")
    return file, encoding


def _from_base64(text: bytes) -> bytes:
    """In pieces: other threads wait while one is looked at or decoded."""
    if text == PLACEHOLDER:
        raise AudioError(
            f"audio: the placeholder '{PLACEHOLDER.decode()}' of an example; "
            "put the base64 of a WAV or FLAC file in its place"
        )
    if text[:5].lower() == b"data:":
        prefix = text[:100].partition(b",")[0]
        raise AudioError(
            f"audio: begins with {quoted(prefix)}; base64 alone is allowed: "
            "remove everything up to and including the first comma"
        )
    pieces = range(0, len(text), BASE64_PIECE)
    stranger = re.compile(rb"[^A-Za-z0-9+/=]")
    for begin in pieces:
        stray = stranger.search(text, begin, begin + BASE64_PIECE)
        if stray:
            what = "a line break" if stray[0] in b"\r\n" else quoted(stray[0])
            hint = " without line breaks" if stray[0] in b"\r\n" else ""
            raise AudioError(
                f"encoding: {what} at byte {stray.start()} of audio; raw WAV or FLAC, or strict "
                f"base64 (A-Z a-z 0-9 + / and = at the end{hint}) are allowed"
            )
    file = io.BytesIO()
    try:
        if len(text) % 4:
            raise binascii.Error("its length is not a multiple of 4")
        if text.endswith(b"==="):  # which binascii lets pass after a whole group
            raise binascii.Error("excess padding")
        for begin in pieces:
            if text[begin - 1 : begin] == b"=":
                raise binascii.Error("excess data after padding")
            piece = text[begin : begin + BASE64_PIECE]
            file.write(binascii.a2b_base64(piece, strict_mode=True))
        return file.getvalue()
    except binascii.Error as error:
        raise AudioError(
            f"encoding: audio of {len(text)} bytes is broken base64 ({error}); "
            "groups of four characters, padded with = at the end, are allowed"
        ) from error


def wrap(file: bytes, encoding: str) -> bytes:
    """The reverse of unwrap(): a file's bytes as the tensor `audio` carries them back."""
    return file if encoding == "raw" else binascii.b2a_base64(file, newline=False)
