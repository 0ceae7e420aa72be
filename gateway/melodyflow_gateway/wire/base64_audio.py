"""Base64 out of JSON -> bytes, in pieces: one call for tens of megabytes would keep Python's lock,
and with it the event loop, for as long as it takes."""

from __future__ import annotations

import binascii
import json
import re

from ..problems import Problem

_PIECE = 2**18  # bytes of text at a time
_SHOWN = 80
_WHITE = b" \t\r\n\v\f"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_DATA_URL = re.compile(rb"\s*data:[^,]{0,200}?;base64,", re.IGNORECASE)
_STRING = json.JSONDecoder(strict=False)  # base64 in lines, whose ends nobody escaped
_PLACEHOLDER = b"base64_encoded_audio_data"


def decode_audio(name: str, text: bytes | memoryview) -> bytearray:
    """What a JSON string holds in base64: standard or URL-safe, padded or not, with white space,
    escapes or a `data:` URL's beginning before it. Raises Problem, 400."""
    whole = memoryview(text)
    prefix = _DATA_URL.match(bytes(whole[:256]).replace(b"\\/", b"/"))
    decoded, left = bytearray(), b""
    at = 0
    if prefix is not None:
        at = bytes(whole[:512]).index(b",") + 1
    try:
        while at < len(whole):
            piece, at = _piece(whole, at)
            piece = left + piece.translate(_URL_SAFE, _WHITE)
            cut = len(piece) - len(piece) % 4
            if at < len(whole) and piece.endswith(b"="):
                cut = max(0, cut - 4)  # padding ends the whole; only white space may follow
            decoded += binascii.a2b_base64(piece[:cut], strict_mode=True)
            left = piece[cut:]
        if left:
            padded = left + b"=" * (-len(left) % 4)
            decoded += binascii.a2b_base64(padded, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        hint = "; this is the README's placeholder" if whole == _PLACEHOLDER else ""
        raise Problem(
            400, f"{name}: {_short(whole)}; expected an audio file in base64 ({error}){hint}"
        ) from None
    if not decoded:
        raise Problem(400, f"{name}: is empty")
    return decoded


def _piece(text: memoryview, at: int) -> tuple[bytes, int]:
    """The next piece with its escapes undone, and where the one after it begins."""
    end = min(at + _PIECE, len(text))
    piece = bytes(text[at:end])
    if b"\\" not in piece:
        return piece, end
    if end < len(text):  # no escape is cut: the longest has six characters
        escape = piece.rfind(b"\\", len(piece) - 6)
        while escape > 0 and piece[escape - 1 : escape] == b"\\":
            escape -= 1
        if escape >= 0:
            piece, end = piece[:escape], at + escape
        if not piece:
            raise ValueError("nothing but backslashes")
    return _STRING.decode(f'"{piece.decode()}"').encode("ascii"), end


def _short(text: memoryview) -> str:
    shown = bytes(text[:_SHOWN]).decode("utf-8", "replace")
    return repr(shown if len(text) <= _SHOWN else f"{shown}…")
