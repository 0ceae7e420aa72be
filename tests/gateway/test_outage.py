"""Triton killed and started again, queues that are full, slow and vanished clients."""

import asyncio
import base64
import itertools
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from melodyflow.embedded import MODEL_REPOSITORY

from ..server import raw
from ..server.conftest import read_metrics
from .conftest import PATIENCE, Running, Start, base64_of, decoded, music, until, wav
from .mortal import Mortal
from .sse import events
from .test_socketio import Client, connected

QUEUE = 3  # edits that may wait in Triton
PENDING = 'nv_inference_pending_request_count{model="melodyflow",version="1"}'


@pytest.fixture(scope="module")
def mortal(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    """Two slots and a queue of three: seven edits fit, see docs/operations.md."""
    repository = tmp_path_factory.mktemp("mortal") / "repository"
    shutil.copytree(MODEL_REPOSITORY, repository)
    config = repository / "melodyflow/config.pbtxt"
    text = config.read_text()
    assert text.count("max_queue_size: 64") >= 1
    config.write_text(text.replace("max_queue_size: 64", f"max_queue_size: {QUEUE}"))
    server = Mortal(checkpoint, repository)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def before_it(mortal: Mortal, start_gateway: Start) -> Running:
    return start_gateway(mortal.address, mortal.metrics, EDITS_PER_MINUTE="100000")


def body(number: int, **changes: object) -> dict[str, Any]:
    clip = wav(0.5, 200 + number % 40)
    return {"audio": base64_of(clip), "variation": "celtic", "steps": 16, "seed": number, **changes}


def test_killed_under_load_no_edit_is_lost(mortal: Mortal, before_it: Running) -> None:
    over = threading.Event()
    numbers = itertools.count(1)

    def client(how: str) -> list[tuple[int, str]]:
        """Edits one after the other until the test is over; a status and a text for each."""
        came = []
        while not over.is_set():
            number = next(numbers)
            came.append(one_of[how](before_it, number))
            if came[-1][0] != 200:
                time.sleep(0.3)
        return came

    one_of = {"transform": transform, "stream": stream, "juce": juce}
    with ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(client, how) for how in (*one_of, *one_of)]
        done = 'melodyflow_gateway_edits_total{api="transform",outcome="done"}'
        try:
            assert until(lambda: before_it.metric(done) >= 2)
            mortal.kill()
            assert until(lambda: before_it.get("/ready").status_code == 503)
            # An edit with a deadline ends there.
            away = before_it.post("/transform", json=body(0, timeout_s=1))
            assert (away.status_code, int(away.headers["Retry-After"])) == (503, 5)
            mortal.start()
            assert until(lambda: before_it.get("/ready").status_code == 200)
            assert until(lambda: before_it.post("/transform", json=body(0)).status_code == 200)
            at_rest = before_it.metric(done)
            assert until(lambda: before_it.metric(done) >= at_rest + 2)
        finally:
            over.set()
        came = [answer for each in clients for answer in each.result(timeout=PATIENCE)]
    assert {answer for answer in came if answer[0] != 200} == set()
    assert until(lambda: before_it.metric("melodyflow_gateway_edits_running") == 0)
    assert before_it.metric("melodyflow_gateway_edits_waiting") == 0


def transform(gateway: Running, number: int) -> tuple[int, str]:
    answer = gateway.post("/transform", json=body(number))
    if answer.status_code == 200:
        assert answer.headers["X-Melodyflow-Seed"] == str(number)
        assert decoded(answer.json()["audio"])[0].shape == music(0.5).shape
        return 200, ""
    return answer.status_code, answer.json()["error"]


def stream(gateway: Running, number: int) -> tuple[int, str]:
    with gateway.post("/transform/stream", json=body(number), stream=True) as answer:
        name, data = list(events(answer))[-1]
    if name == "result":
        assert data["seed"] == number
        return 200, ""
    return data["code"], data["error"]


def juce(gateway: Running, number: int) -> tuple[int, str]:
    request = body(number, session_id=f"vst-{number}")
    request["audio_data"] = request.pop("audio")
    begun = gateway.post("/api/juce/transform_audio", json=request)
    assert begun.status_code == 200, begun.text
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        state = gateway.get(f"/api/juce/poll_status/vst-{number}").json()
        if not state["transform_in_progress"]:
            break
        time.sleep(0.1)
    if state["status"] == "completed":
        assert state["seed"] == number
        return 200, ""
    assert state["status"] == "failed"
    return 503, state["error"]


@pytest.fixture(scope="module")
def roomy(checkpoint: Path) -> Iterator[Mortal]:
    """One that works on the edits of all routes at a time."""
    server = Mortal(checkpoint, slots=8)
    server.start()
    yield server
    server.stop()


def by_json(gateway: Running, request: dict[str, Any]) -> bytes:
    answer = gateway.post("/transform", json=request)
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["audio"])


def by_form(gateway: Running, request: dict[str, Any]) -> bytes:
    form = {name: value for name, value in request.items() if name != "audio"}
    files = {"audio": ("a.wav", base64.b64decode(request["audio"]))}
    answer = gateway.post("/transform", data=form, files=files)
    assert answer.status_code == 200, answer.text
    return answer.content


def by_events(gateway: Running, request: dict[str, Any]) -> bytes:
    with gateway.post("/transform/stream", json=request, stream=True) as answer:
        found = list(events(answer))
    assert [name for name, _ in found].count("result") == 1
    assert found[-1][0] == "result", found[-1]
    queued = [data for name, data in found if name == "queued"]
    assert "warming" not in queued[0]
    assert any(data.get("warming") is True for data in queued)
    shares = [data["progress"] for name, data in found if name == "progress"]
    assert shares == sorted(shares)
    return base64.b64decode(found[-1][1]["audio"])


def by_vst(gateway: Running, request: dict[str, Any]) -> bytes:
    request = {**request, "session_id": "vst-carried", "audio_data": request["audio"]}
    assert gateway.post("/api/juce/transform_audio", json=request).status_code == 200
    path = "/api/juce/poll_status/vst-carried"
    states = [gateway.get(path).json()]
    while states[-1]["transform_in_progress"]:
        time.sleep(0.1)
        states.append(gateway.get(path).json())
    assert states[-1]["status"] == "completed", states[-1]
    assert "warming" in {state["status"] for state in states}
    shares = [state["progress"] for state in states]
    assert shares == sorted(shares)
    return base64.b64decode(states[-1]["audio_data"])


def by_socketio(gateway: Running, request: dict[str, Any]) -> bytes:
    async def play() -> Client:
        async with connected(gateway) as client:
            data = {**request, "session_id": "io", "audio_data": request["audio"]}
            await client.socket.emit("transform_audio_request", data)
            await client.wait_for("audio_transformed", "error")
            return client

    client = asyncio.run(play())
    assert client.of("error") == []
    assert "warming" in {data["status"] for data in client.of("queue_status")}
    [done] = client.of("audio_transformed")
    return base64.b64decode(done["audio_data"])


def test_an_edit_comes_home_on_all_routes_as_if_nothing_had_been(
    roomy: Mortal, start_gateway: Start
) -> None:
    gateway = start_gateway(roomy.address, roomy.metrics)
    clip = base64_of(wav(4))
    request = {"audio": clip, "variation": "celtic", "steps": 128, "seed": 7}
    undisturbed = by_json(gateway, request)
    routes = (by_json, by_form, by_events, by_vst, by_socketio)
    running = "melodyflow_gateway_edits_running"
    with ThreadPoolExecutor(len(routes)) as pool:
        edits = [pool.submit(route, gateway, request) for route in routes]
        assert until(lambda: gateway.metric(running) == len(routes))
        roomy.kill()
        assert until(lambda: gateway.metric(running) == 0, 10)
        roomy.start()
        for edit, route in zip(edits, routes, strict=True):
            assert edit.result(timeout=PATIENCE) == undisturbed, route
    done = 'melodyflow_edits_total{outcome="done"}'
    assert read_metrics(roomy.metrics)[done] == len(routes)  # each was made once


def test_health_follows_the_server(roomy: Mortal, start_gateway: Start) -> None:
    gateway = start_gateway(roomy.address, roomy.metrics)

    def ready() -> int:
        return gateway.get("/ready").status_code

    def health() -> tuple[int, str, bool]:
        answer = gateway.get("/health")
        told = answer.json()
        assert (told["error"] is None) == (told["status"] == "healthy")
        return answer.status_code, told["status"], told["model_loaded"]

    healthy = (200, "healthy", True)
    assert until(lambda: ready() == 200)
    roomy.kill()
    assert until(lambda: ready() == 503, 10)
    assert health() == (200, "warming", False)  # it may be loading, as far as one can see
    roomy.start()
    assert until(lambda: health() == healthy)
    with roomy.stopped():  # which is found out by waiting; nobody who asks waits for it
        assert until(lambda: ready() == 503, 20)
        assert health() == (200, "warming", False)
    assert until(lambda: health() == healthy)


def test_a_vst_is_told_that_the_server_warms_up(mortal: Mortal, before_it: Running) -> None:
    mortal.kill()
    request = body(1, session_id="warm")
    request["audio_data"] = request.pop("audio")
    assert before_it.post("/api/juce/transform_audio", json=request).status_code == 200
    assert until(lambda: before_it.get("/api/juce/poll_status/warm").json()["status"] == "warming")
    # Who gives a deadline has a 503 then; the VST goes on waiting.
    assert before_it.post("/transform", json=body(2, timeout_s=1)).status_code == 503
    assert before_it.get("/api/juce/poll_status/warm").json()["status"] == "warming"
    mortal.start()
    assert until(lambda: before_it.get("/api/juce/poll_status/warm").json()["progress"] == 100)
    assert before_it.get("/api/juce/poll_status/warm").json()["status"] == "completed"


def test_who_waits_is_told_how_many_are_before(mortal: Mortal, before_it: Running) -> None:
    def one(number: int) -> list[dict[str, Any]]:
        request = body(number, steps=64, audio=base64_of(wav(3, 200 + number)))
        with before_it.post("/transform/stream", json=request, stream=True) as answer:
            found = list(events(answer))
        assert found[-1][0] == "result", found[-1]
        return [data for name, data in found if name == "queued"]

    with ThreadPoolExecutor(5) as pool:  # two of them in the slots
        queued = list(pool.map(one, range(5)))
    positions = [event["position"] for events in queued for event in events]
    assert max(positions) >= 2
    for told in queued:
        own = [event["position"] for event in told]
        assert own == sorted(own, reverse=True)
    assert any(event["estimated_seconds"] for events in queued for event in events)


def test_a_full_queue_is_503(mortal: Mortal, before_it: Running) -> None:
    endless = {"prompt": "a harp", "steps": 128, "regularize_iters": 8, "audio": wav(25)}
    with ExitStack() as stack:
        # More than fit: some are refused themselves.
        for _ in range(10):
            stack.enter_context(raw.Stream(mortal.server, endless))
        assert until(lambda: read_metrics(mortal.server.metrics_url)[PENDING] == QUEUE)
        answer = before_it.post("/transform", json=body(1, timeout_s=10))
        if answer.status_code == 504:  # Triton has taken one more ahead: there was a place left
            stack.enter_context(raw.Stream(mortal.server, endless))
            answer = before_it.post("/transform", json=body(1, timeout_s=10))
        assert answer.status_code == 503
        assert "Exceeds maximum queue size" in answer.json()["error"]
        assert int(answer.headers["Retry-After"]) >= 1
    assert until(lambda: before_it.post("/transform", json=body(1)).status_code == 200)
