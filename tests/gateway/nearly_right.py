"""Requests, forms, packets, frames and messages that are right, and what becomes of them when some
of their bytes change."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Mapping, Sequence

from ..server import attackers
from .attacks.files import wav

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

# --- what is right --------------------------------------------------------------------------------

_CLIP = wav(0.1, rate=8000)
_SOUND = base64.b64encode(_CLIP).decode()
_EDIT = {"audio": _SOUND, "variation": "celtic", "steps": 1, "regularize_iters": 0, "seed": 7}


def request(line: str, body: bytes = b"", kind: str = "application/json", more: str = "") -> bytes:
    head = f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}"
    if body:
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def _json(line: str, **fields: object) -> bytes:
    return request(line, json.dumps(fields).encode())


def _form(line: str, **fields: object) -> bytes:
    parts = [
        f'--X\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
        if name != "audio"
    ]
    head = b'--X\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'
    body = b"".join([*parts, head, _CLIP, b"\r\n--X--\r\n"])
    return request(line, body, "multipart/form-data; boundary=X")


def _frame(text: bytes, opcode: int = 1) -> bytes:
    """A WebSocket frame of a client, its mask all zeros."""
    size = len(text)
    length = bytes([128 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([128 | opcode]) + length + bytes(4) + text


def _event(name: str, **data: object) -> bytes:
    return b"42" + json.dumps([name, data]).encode()


_DATA = {"audio_data": _SOUND, "variation": "celtic", "steps": 1, "session_id": "fuzzed"}
_EVENTS = (_event("transform_audio_request", **_DATA), _event("undo_transform_request", a=1))
UPGRADE = request(
    "GET /socket.io/?EIO=4&transport=websocket",
    more=f"Upgrade: websocket\r\n{KEY.decode()}",
).replace(b"Connection: close", b"Connection: Upgrade")

HTTP = (
    _json("POST /transform", **_EDIT),
    _json("POST /transform", **_EDIT, session_id="fuzzed", custom_prompt="a harp", solver="euler"),
    _form("POST /transform", variation="celtic", steps=1, seed=3),
    _json("POST /transform/stream", **_EDIT),
    _json("POST /transform/stream", duration=1, custom_prompt="a harp", steps=1),
    _json("POST /api/juce/transform_audio", **{**_DATA, "session_id": "polled"}),
    request("GET /api/juce/poll_status/polled"),
    _json("POST /api/juce/undo_transform", session_id="polled"),
    request("POST /login", b"token=a-token-for-the-fuzzer", "application/x-www-form-urlencoded"),
    request("POST /logout", more="Cookie: melodyflow_gateway=abc\r\nOrigin: http://localhost\r\n"),
    *(request(f"GET {path}") for path in ("/", "/health", "/limits", "/variations", "/metrics")),
    request("GET /static/src/main.js", more="If-None-Match: x\r\nRange: bytes=0-10\r\n"),
    request("GET /socket.io/?EIO=4&transport=polling"),
    UPGRADE,
)
PACKETS = (
    b"40",
    b"3",
    *_EVENTS,
    b"1",
    b"\x1e".join((b"40", *_EVENTS)),
    b'451-["a",{"_placeholder":true,"num":0}]',
)
FRAMES = (
    _frame(b"40") + _frame(_EVENTS[0]) + _frame(b"", 9),
    _frame(b"40") + _frame(_EVENTS[1]) + _frame(b"\x03\xe8", 8),
    _frame(b"40") + _frame(b"3") + _frame(bytes(20), 2),
)
_TRITONS_EDIT = {name: value for name, value in _EDIT.items() if name != "variation"}
_TENSORS = {
    "prompt": ("BYTES", "a harp"),
    "steps": ("INT64", 1),
    "regularize_iters": ("INT64", 0),
    "duration": ("FP32", 1.0),
}
TRITONS = (
    _json("POST /v2/models/melodyflow/generate", stream=False, prompt="a harp", **_TRITONS_EDIT),
    _json("POST /v2/models/melodyflow/generate_stream", prompt="a harp", duration=1, steps=1),
    _json(
        "POST /v2/models/melodyflow/infer",
        inputs=[
            {"name": name, "datatype": kind, "shape": [1, 1], "data": [value]}
            for name, (kind, value) in _TENSORS.items()
        ],
    ),
    *(request(f"GET /v2{path}") for path in ("", "/health/ready", "/models/melodyflow/config")),
)


def _message(parameters: Mapping[str, str] = {}, **inputs: object) -> bytes:
    """An edit for Triton's gRPC port."""
    infer = attackers.request("fuzzed", inputs)
    for name, text in parameters.items():
        infer.parameters[name].string_param = text
    return bytes(infer.SerializeToString())


_QUICK = {"prompt": "a harp", "steps": 1, "seed": 7}
MESSAGES = (
    _message(audio=_CLIP, regularize_iters=0, **_QUICK),
    _message(audio=_CLIP, start=0.02, end=0.08, loudness="source", format="flac", **_QUICK),
    _message(audio=_SOUND.encode(), encoding="base64", solver="midpoint", loop=True, **_QUICK),
    _message({"timeout_s": "5", "owner": "fuzzer"}, duration=1.0, sample_rate=8000, **_QUICK),
    _message(duration=0.5, stream=False, previews=2, **_QUICK),
)

# --- what is nearly right -------------------------------------------------------------------------

TOKENS = (
    *(b"\xff", b"\x00", b"\xed\xa0\x80", b"\r\n", b"\r\n\r\n", b"\x1e", b'"', b"\\", b"\\u0000"),
    *(b"\\ud800", b"{", b"}", b"[", b"]", b"[" * 40, b"null", b"true", b"NaN", b"-1", b"1e999"),
    *(b"9" * 50, b"0.0", b"%00", b"%ff", b"../", b"A" * 300, b"--X--", b"=", b";", b",", b" "),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Expect: 100-continue\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"HTTP/9.9", b"data:;base64,"),
)


def mutated(rng: random.Random, right: Sequence[bytes]) -> bytes:
    """One of what is right with up to eight changes; the length of a body follows, mostly."""
    text = bytearray(rng.choice(right))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(text) + 1)
        length = rng.choice((1, 1, 2, 4, 16, 200))
        change = rng.randrange(7)
        if change == 0 and text:
            text[at % len(text)] ^= 1 << rng.randrange(8)
        elif change == 1:
            text[at : at + length] = rng.randbytes(length)
        elif change == 2:
            del text[at : at + length]
        elif change == 3:
            text[at:at] = text[at : at + length]
        elif change == 4:
            text[at:at] = rng.choice(TOKENS)
        elif change == 5:
            numbers = list(re.finditer(rb"-?\d+", text[:3000]))
            if numbers:
                found = rng.choice(numbers)
                text[found.start() : found.end()] = rng.choice(TOKENS)
        else:
            other = rng.choice(right)
            text[at : at + length] = other[rng.randrange(len(other)) :][:length]
    if rng.random() < 0.1:
        del text[rng.randrange(len(text) + 1) :]
    if rng.random() < 0.8:
        head, end, body = bytes(text).partition(b"\r\n\r\n")
        head = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head, count=1)
        return head + end + body
    return bytes(text)
