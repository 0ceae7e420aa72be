"""POST /decode: what an edit of a file would send, and nothing that an edit wouldn't take."""

import asyncio
import io
import json
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soundfile
from prometheus_client import Gauge
from starlette.testclient import TestClient
from starlette.types import Message

from melodyflow_client.audio import load, waveform
from melodyflow_gateway import decoding
from melodyflow_gateway.app import create_app
from melodyflow_gateway.budget import Budget
from melodyflow_gateway.settings import Settings

from .asgi import scope_of
from .conftest import PATIENCE, RATE, TOKEN, Open, decoded, music, wav

HEADER = "X-Melodyflow-Warnings"


def written(container: str, subtype: str, channels: int = 2) -> bytes:
    buffer = io.BytesIO()
    samples = np.tile(music(0.5)[:1], (channels, 1)).T
    soundfile.write(buffer, samples, RATE, format=container, subtype=subtype)
    return buffer.getvalue()


def by_ffmpeg(container: str, codec: str, layout: str = "stereo") -> bytes:
    """Half a second, as FFmpeg writes it."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=RATE, layout=layout)
        assert isinstance(stream, av.AudioStream)
        channels = stream.codec_context.channels
        samples = np.tile(music(0.5)[:1], (channels, 1)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", layout)
        frame.sample_rate = RATE
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "wav": lambda: wav(0.5),
    "wav of floats of 64 bits": lambda: written("WAV", "DOUBLE"),
    "flac": lambda: written("FLAC", "PCM_24"),
    "aiff": lambda: written("AIFF", "PCM_24"),
    "caf": lambda: written("CAF", "PCM_16"),
    "w64": lambda: written("W64", "PCM_16"),
    "mp3": lambda: written("MP3", "MPEG_LAYER_III"),
    "ogg": lambda: written("OGG", "VORBIS"),
    "wavpack": lambda: by_ffmpeg("wv", "wavpack"),
    "m4a": lambda: by_ffmpeg("mp4", "aac"),
    "alac": lambda: by_ffmpeg("mp4", "alac"),
    "m4a of six channels": lambda: by_ffmpeg("mp4", "aac", "5.1"),
    "wav of six channels": lambda: written("WAV", "PCM_16", 6),
    "junk first": lambda: bytes(100) + wav(0.5),
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[TestClient]:
    """A gateway without a server: decoding needs none."""
    settings = Settings(server="127.0.0.1:1", metrics="127.0.0.1:1")
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


@pytest.mark.parametrize("name", FILES)
def test_it_is_what_the_sdk_would_send(gateway: TestClient, name: str) -> None:
    file = FILES[name]()
    answer = gateway.post("/decode", files={"audio": (f"Größe {name}", file)})
    assert answer.status_code == 200, answer.text
    clip = load(file)
    assert answer.content == clip.data
    kind = "flac" if name == "flac" else "wav"
    assert answer.headers["Content-Type"] == f"audio/{kind}"
    assert tuple(json.loads(answer.headers.get(HEADER, "[]"))) == clip.warnings
    assert bool(clip.warnings) == ("six" in name or "junk" in name)
    samples, rate = waveform(answer.content)
    assert (samples.shape, rate) == ((clip.channels, clip.samples), RATE)
    assert decoded(answer.content)[0].shape == samples.shape


@pytest.mark.parametrize(
    ("options", "status", "begins"),
    [
        ({"files": {"audio": b"no sound at all"}}, 400, "audio: "),
        ({"files": {"audio": b""}}, 400, "audio: is empty"),
        ({"files": {"file": wav(0.5)}}, 400, "file: the form's file must be called 'audio'"),
        ({"files": [("audio", wav(0.5)), ("audio", wav(0.5))]}, 400, "audio: given twice"),
        ({"files": {"audio": wav(0.5)}, "data": {"seed": "1"}}, 400, "seed: no such field"),
        ({"files": {"nothing": (None, "x")}}, 400, "nothing: no such field"),
        ({"files": {"audio": (None, "UklGRg==")}}, 400, "audio: is text; expected a file part"),
        ({"json": {"audio": ""}}, 415, "Content-Type: 'application/json'; multipart/form-data"),
    ],
)
def test_what_is_wrong_is_named(
    gateway: TestClient, options: dict[str, object], status: int, begins: str
) -> None:
    answer = gateway.post("/decode", **options)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json().keys()) == (status, {"error"})
    assert answer.json()["error"].startswith(begins)


def test_it_has_the_limits_of_an_edit(open_gateway: Open) -> None:
    def status(**settings: object) -> int:
        client = open_gateway(**settings)
        status = client.post("/decode", files={"audio": FILES["aiff"]()}).status_code
        assert "melodyflow_gateway_budget_bytes 0.0" in client.get("/metrics").text
        return status

    assert status() == 200
    assert status(max_seconds=0.4) == 400
    assert status(max_body_bytes=1000) == 413
    assert status(edit_seconds=1e-6) == 504


def test_it_needs_a_token_and_counts_as_an_edit(open_gateway: Open) -> None:
    client = open_gateway(tokens=(TOKEN,), edits_per_minute=2)

    def status(**headers: str) -> int:
        return client.post("/decode", files={"audio": wav(0.5)}, headers=headers).status_code

    mine = {"Authorization": f"Bearer {TOKEN}"}
    assert status() == 401
    assert [status(**mine) for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("path", ["/decode", "/transform", "/transform/stream"])
def test_a_client_that_leaves_ends_the_decoding(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(*_: object, check: Callable[[], None], **__: object) -> None:
        begun.set()
        try:
            while True:
                time.sleep(0.01)
                check()
        finally:
            ended.set()

    monkeypatch.setattr(decoding, "load", endless)
    budget = Budget(2**30, Gauge("taken", "", registry=None))
    head = b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
    fields = b'--x\r\nContent-Disposition: form-data; name="variation"\r\n\r\nceltic\r\n'
    body = head + wav() + b"\r\n" + (b"" if path == "/decode" else fields) + b"--x--\r\n"
    headers = [
        (b"content-type", b"multipart/form-data; boundary=x"),
        (b"content-length", b"%d" % len(body)),
    ]
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    statuses = []

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.to_thread(begun.wait, PATIENCE)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    app = create_app(Settings(server="127.0.0.1:1", metrics="127.0.0.1:1"), budget=budget)
    asyncio.run(app(scope_of("http", "POST", path.encode(), b"", headers), receive, send))  # type: ignore[arg-type]
    assert statuses == [499]
    assert ended.wait(PATIENCE)
    assert budget.taken == 0


def test_the_largest_body_is_told(open_gateway: Open) -> None:
    assert open_gateway(max_body_bytes=123456).get("/limits").json()["max_body_bytes"] == 123456
