"""Clips, and one edit of them each way into the service: gRPC, HTTP, the gateway, the page."""

from __future__ import annotations

import base64
import io
import json
import urllib.request
import uuid
import wave
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from melodyflow_client import MelodyFlowClient

from .stack import check

GRPC = "127.0.0.1:8001"
TRITON = "http://127.0.0.1:8000"
GATEWAY = "http://127.0.0.1:8002"
SECONDS = 300.0  # that any answer may take on a busy machine
PROMPT = "solo cello, sad and slow"

Clip = bytes
Asked = Mapping[str, Any]
Edit = Callable[[Clip, Asked], bytes]

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def clip(seconds: float, pitch: float = 220.0, rate: int = 48000) -> Clip:
    """A stereo chord that fades, as a WAV file of 16 bits."""
    t = np.arange(int(seconds * rate)) / rate
    waves = [np.sin(2 * np.pi * one * t) * np.exp(-t) * 0.3 for one in (pitch, pitch * 1.26)]
    file = io.BytesIO()
    with wave.open(file, "wb") as made:
        made.setparams((2, 2, rate, 0, "NONE", ""))
        made.writeframes((np.stack(waves).T * 32767).astype("<i2").tobytes())
    return file.getvalue()


def ask(
    url: str, body: bytes | None = None, **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of an answer, whatever its status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named)
    try:
        with _direct.open(request, timeout=SECONDS) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def by_grpc(audio: Clip, asked: Asked) -> bytes:
    with MelodyFlowClient(GRPC) as client:
        return bytes(client.transform(audio, prompt=PROMPT, timeout=SECONDS, **asked).audio)


def by_http(audio: Clip, asked: Asked, url: str = TRITON, **headers: str) -> bytes:
    body = {"prompt": PROMPT, "audio": base64.b64encode(audio).decode(), "stream": False, **asked}
    path = "/v2/models/melodyflow/generate"
    status, _, answer = ask(url + path, json.dumps(body).encode(), **headers)
    check(status == 200, "HTTP answers 200", (status, answer[:300]))
    return base64.b64decode(json.loads(answer)["audio"])


def by_gateway(audio: Clip, asked: Asked) -> bytes:
    encoded = base64.b64encode(audio).decode()
    body = {"variation": "custom", "custom_prompt": PROMPT, "audio": encoded, **asked}
    status, _, answer = ask(
        f"{GATEWAY}/transform", json.dumps(body).encode(), Content_Type="application/json"
    )
    check(status == 200, "the gateway answers 200", (status, answer[:300]))
    return base64.b64decode(json.loads(answer)["audio"])


def by_page(audio: Clip, asked: Asked) -> bytes:
    """What the page's modules send: a form, whose answer is a stream of events."""
    boundary = uuid.uuid4().hex
    fields = {"variation": "custom", "custom_prompt": PROMPT, **asked}
    form = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    form += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'
    )
    body = form.encode() + audio + f"\r\n--{boundary}--\r\n".encode()
    status, _, answer = ask(
        f"{GATEWAY}/transform/stream",
        body,
        Content_Type=f"multipart/form-data; boundary={boundary}",
        Origin=GATEWAY,
        Sec_Fetch_Site="same-origin",
    )
    check(status == 200, "the page's request is answered with 200", (status, answer[:300]))
    events = answer.decode().strip().split("\n\n")
    name, _, data = events[-1].partition("\ndata: ")
    check(name == "event: result", "its last event is the result", events[-1][:300])
    return base64.b64decode(json.loads(data)["audio"])


WAYS: Mapping[str, Edit] = {
    "gRPC": by_grpc,
    "HTTP": by_http,
    "the gateway": by_gateway,
    "the page": by_page,
}
