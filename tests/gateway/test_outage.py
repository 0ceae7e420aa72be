"""Triton killed and started again, queues that are full, slow and vanished clients."""

import itertools
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from melodyflow.embedded import MODEL_REPOSITORY, EmbeddedServer

from ..server import raw
from ..server.conftest import read_metrics
from .conftest import PATIENCE, Running, Start, base64_of, decoded, music, until, wav
from .sse import events

QUEUE = 3  # edits that may wait in Triton
PENDING = 'nv_inference_pending_request_count{model="melodyflow",version="1"}'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Mortal:
    """A server that is killed and started again on the same ports."""

    def __init__(self, checkpoint: Path, repository: Path) -> None:
        self._checkpoint, self._repository = checkpoint, repository
        self._grpc, self._metrics = free_port(), free_port()
        self._server: EmbeddedServer | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._grpc}"

    @property
    def metrics(self) -> str:
        return f"127.0.0.1:{self._metrics}"

    @property
    def server(self) -> EmbeddedServer:
        assert self._server is not None
        return self._server

    def start(self) -> None:
        self._server = EmbeddedServer(
            self._checkpoint,
            http_port=0,
            grpc_port=self._grpc,
            metrics_port=self._metrics,
            settings={"DEVICE": "cpu", "PRECISION": "fp32", "SLOTS": "2"},
            model_repository=self._repository,
            exit_timeout=5,
        )
        self._server.start()

    def kill(self) -> None:
        os.killpg(self.server.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(at_once=True)
            self._server = None


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


def test_killed_under_load_it_is_missed_clearly_and_found_again(
    mortal: Mortal, before_it: Running
) -> None:
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
            assert until(lambda: before_it.get("/health").status_code == 503)
            away = before_it.post("/transform", json=body(0))
            assert (away.status_code, int(away.headers["Retry-After"])) == (503, 5)
            mortal.start()
            assert until(lambda: before_it.get("/health").status_code == 200)
            assert until(lambda: before_it.post("/transform", json=body(0)).status_code == 200)
            at_rest = before_it.metric(done)
            assert until(lambda: before_it.metric(done) >= at_rest + 2)
        finally:
            over.set()
        came = [answer for each in clients for answer in each.result(timeout=PATIENCE)]
    # Every client got its result or a clear error; nothing hung.
    assert {status for status, _ in came} <= {200, 503}
    assert any(status == 503 for status, _ in came)
    assert all(text for status, text in came if status == 503)
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


def test_a_vst_is_told_that_the_server_warms_up(mortal: Mortal, before_it: Running) -> None:
    mortal.kill()
    request = body(1, session_id="warm")
    request["audio_data"] = request.pop("audio")
    assert before_it.post("/api/juce/transform_audio", json=request).status_code == 200
    assert until(lambda: before_it.get("/api/juce/poll_status/warm").json()["status"] == "warming")
    # The HTTP that a client waits for has its 503; the VST goes on waiting.
    assert before_it.post("/transform", json=body(2)).status_code == 503
    assert before_it.get("/api/juce/poll_status/warm").json()["status"] == "warming"
    mortal.start()
    assert until(lambda: before_it.get("/api/juce/poll_status/warm").json()["progress"] == 100)
    assert before_it.get("/api/juce/poll_status/warm").json()["status"] == "completed"


def test_who_waits_is_told_how_many_are_before(mortal: Mortal, before_it: Running) -> None:
    def one(number: int) -> list[dict[str, Any]]:
        request = body(number, steps=128, audio=base64_of(wav(5, 200 + number)))
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
        answer = before_it.post("/transform", json=body(1))
        assert answer.status_code == 503
        assert "Exceeds maximum queue size" in answer.json()["error"]
        assert int(answer.headers["Retry-After"]) >= 1
    assert until(lambda: before_it.post("/transform", json=body(1)).status_code == 200)
