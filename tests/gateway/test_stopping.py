"""A gateway that is told to stop: it takes nothing new, and what is in flight ends first."""

import asyncio
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from melodyflow.embedded import EmbeddedServer

from .conftest import PATIENCE, Running, Start, base64_of, decoded, music, until, wav
from .sse import events
from .test_socketio import connected

Metrics = Callable[[], dict[str, float]]
RUNNING = "melodyflow_gateway_edits_running"
CANCELLED = 'melodyflow_edits_total{outcome="cancelled"}'
SHORT = {"variation": "celtic", "seconds": 3.0, "steps": 64}
ENDLESS = {"variation": "celtic", "seconds": 20.0, "steps": 128}


def body(name: str, shape: dict[str, object], audio: str = "audio") -> dict[str, object]:
    rest = {key: value for key, value in shape.items() if key != "seconds"}
    clip = base64_of(wav(float(str(shape["seconds"])), 150 + len(name)))
    return {audio: clip, "session_id": name, **rest}


def transform(gateway: Running, shape: dict[str, object]) -> tuple[int, object]:
    answer = gateway.post("/transform", json=body("waits", shape))
    return answer.status_code, answer.json()


def stream(gateway: Running, shape: dict[str, object]) -> tuple[str, object]:
    asked = body("streams", shape)
    with gateway.post("/transform/stream", json=asked, stream=True) as answer:
        return list(events(answer))[-1]


def poll(gateway: Running, shape: dict[str, object]) -> tuple[str, object]:
    asked = body("polls", shape, "audio_data")
    assert gateway.post("/api/juce/transform_audio", json=asked).status_code == 200
    while True:
        said = gateway.get("/api/juce/poll_status/polls").json()
        if not said["transform_in_progress"]:
            return said["status"], said
        time.sleep(1)


def emit(gateway: Running, shape: dict[str, object]) -> tuple[str, object]:
    async def edit() -> tuple[str, object]:
        async with connected(gateway) as client:
            asked = body("emits", shape, "audio_data")
            await client.socket.emit("transform_audio_request", asked)
            said = await client.wait_for("audio_transformed", "error")
            return ("error" if client.of("error") else "audio_transformed"), said

    return asyncio.run(edit())


WAYS = (transform, stream, poll, emit)


def begin(gateway: Running, pool: ThreadPoolExecutor, shape: dict[str, object]) -> list[object]:
    """One edit each way; all of them run."""
    edits = [pool.submit(way, own(gateway), shape) for way in WAYS]
    assert until(lambda: gateway.metric(RUNNING) == len(WAYS))
    return edits


def own(gateway: Running) -> Running:
    """The same gateway over connections of one's own."""
    return Running(gateway.url, gateway.process, gateway.said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_comes_home_and_nothing_new_is_taken(
    server: EmbeddedServer, start_gateway: Start, number: int
) -> None:
    gateway = start_gateway(server.grpc_url, server.metrics_url)
    with ThreadPoolExecutor() as pool:
        edits = begin(gateway, pool, SHORT)
        gateway.process.send_signal(number)
        assert until(lambda: gateway.get("/ready").status_code == 503)
        assert gateway.get("/ready").json()["error"] == "the gateway is stopping"
        assert gateway.get("/health").status_code == 503
        for path in ("/transform", "/transform/stream", "/api/juce/transform_audio"):
            audio = "audio_data" if "juce" in path else "audio"
            refused = gateway.post(path, json=body("late", SHORT, audio))
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
            assert refused.json()["error"] == "the gateway is stopping; try again"
        came = [edit.result(PATIENCE) for edit in edits]
    assert [name for name, _ in came] == [200, "result", "completed", "audio_transformed"]
    for (_, said), field in zip(came, ("audio", "audio", "audio_data", "audio_data"), strict=True):
        assert decoded(said[field])[0].shape == music(3.0).shape
    gateway.http.close()
    assert gateway.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("again", [False, True], ids=["its time is up", "a second signal"])
def test_what_does_not_end_in_time_ends_with_503(
    server: EmbeddedServer, start_gateway: Start, metrics: Metrics, again: bool
) -> None:
    gateway = start_gateway(
        server.grpc_url, server.metrics_url, DRAIN_SECONDS="600" if again else "1"
    )
    before = metrics()[CANCELLED]
    with ThreadPoolExecutor() as pool:
        edits = begin(gateway, pool, ENDLESS)
        gateway.process.send_signal(signal.SIGTERM)
        if again:
            assert until(lambda: gateway.get("/ready").status_code == 503)
            assert gateway.metric(RUNNING) == len(WAYS)
            gateway.process.send_signal(signal.SIGTERM)
        answers = [edit.result(PATIENCE) for edit in edits]
    assert [name for name, _ in answers] == [503, "error", "failed", "error"]
    for said in (said for _, said in answers):
        text = said.get("error") or said["message"]
        assert text == "the gateway is stopping, and its time for edits in flight is up"
    assert gateway.process.wait(PATIENCE) == 0
    assert until(lambda: metrics()[CANCELLED] == before + len(WAYS))


def test_without_edits_it_ends_at_once(server: EmbeddedServer, start_gateway: Start) -> None:
    gateway = start_gateway(server.grpc_url, server.metrics_url)
    assert gateway.get("/ready").status_code == 200
    began = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(PATIENCE) == 0
    assert time.monotonic() - began < PATIENCE
