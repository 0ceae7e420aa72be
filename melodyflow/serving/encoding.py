"""How the tensor `audio` carries a file: raw bytes or base64."""

import binascii
import io
import re

from melodyflow.audio import Limits
from melodyflow.audio.containers import is_known
from melodyflow.errors import AudioError, quoted

ENCODINGS = ("raw", "base64")
BASE64_PIECE = 2**20  # characters checked or decoded at a time; a multiple of 4
PLACEHOLDER = b"base64_encoded_audio_data"  # in the examples of the Flask service's README


def check_encoding(encoding: str) -> str:
    """Returns the encoding; raises AudioError if it is unknown."""
    if encoding not in ENCODINGS:
        raise AudioError(f"encoding: {encoding!r}; must be 'raw' or 'base64'")
    return encoding


def unwrap(payload: bytes, encoding: str | None, limits: Limits) -> tuple[bytes, str]:
    """Takes an audio file out of the tensor `audio`: (the file's bytes, 'raw' or 'base64').

    Without an `encoding`, a payload that starts like WAV or FLAC is raw; anything else must be
    base64 on one line. Raises AudioError; `limits.max_bytes` is checked before base64 is decoded.
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
        raise AudioError("audio: 0 bytes; expected a WAV or FLAC file")
    return file, encoding


def _from_base64(text: bytes) -> bytes:
    """Decodes in pieces: other threads must wait while a piece is checked or decoded."""
    if text == PLACEHOLDER:
        raise AudioError(
            f"audio: the placeholder '{PLACEHOLDER.decode()}' from an example; "
            "replace it with the base64 of a WAV or FLAC file"
        )
    if text[:5].lower() == b"data:":
        prefix = text[:100].partition(b",")[0]
        raise AudioError(
            f"audio: starts with {quoted(prefix)}; only the base64 itself is allowed: "
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
                f"encoding: {what} at byte {stray.start()} of audio; must be raw WAV or FLAC, or "
                f"strict base64 (A-Z a-z 0-9 + / and = at the end{hint})"
            )
    file = io.BytesIO()
    try:
        if len(text) % 4:
            raise binascii.Error("its length is not a multiple of 4")
        if text.endswith(b"==="):  # binascii accepts it after a complete group
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
            "must be groups of four characters, padded with = at the end"
        ) from error


def wrap(file: bytes, encoding: str) -> bytes:
    """The reverse of unwrap(): a file's bytes as the tensor `audio` returns them."""
    return file if encoding == "raw" else binascii.b2a_base64(file, newline=False)
