"""The clients against a real gRPC peer that answers as scripted: retries, cancellation, deadlines.

What the real server does is tests/server's subject; here is what it cannot be made to do at will.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from melodyflow_client import (
    AsyncMelodyFlowClient,
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    MelodyFlowClient,
    Progress,
    Result,
    Retry,
    ServerError,
    Unavailable,
)
from melodyflow_client.audio import load

ROOT = Path(__file__).resolve().parents[2]
CLIP = (np.linspace(-0.5, 0.5, 4800, dtype=np.float32)[None], 48000)
QUICK = Retry(retries=5, first=0.01, longest=0.02)

Request = Any
Context = grpc.ServicerContext
Script = Callable[[Request, Context], Iterator[Any]]


class Peer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers the n-th stream by the n-th script, the last one ever after."""

    def __init__(self) -> None:
        self.scripts: list[Script] = [edit]
        self.requests: list[Request] = []
        self.metadata: list[dict[str, Any]] = []
        self.cancelled = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def ModelStreamInfer(self, requests: Iterator[Request], context: Context) -> Iterator[Any]:
        request = next(iter(requests))
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        script = self.scripts[min(len(self.requests), len(self.scripts)) - 1]
        ended = threading.Event()
        context.add_callback(lambda: ended.is_set() or self.cancelled.set())
        yield from script(request, context)
        ended.set()


def value(request: Request, name: str) -> bytes:
    index = [tensor.name for tensor in request.inputs].index(name)
    content: bytes = request.raw_input_contents[index]
    return content[4:] if request.inputs[index].datatype == "BYTES" else content


def seed_of(request: Request) -> int:
    return int(np.frombuffer(value(request, "seed"), np.int64)[0])


def answer(**outputs: Any) -> Any:
    response = service_pb2.ModelStreamInferResponse()
    kinds = {"progress": "FP32", "gain_db": "FP32", "seed": "INT64"}
    for name, content in outputs.items():
        is_bytes = isinstance(content, bytes)
        kind = "BYTES" if is_bytes else kinds.get(name, "INT32")
        dtype = {"FP32": np.float32, "INT64": np.int64, "INT32": np.int32, "BYTES": np.uint8}[kind]
        items = content if isinstance(content, tuple) else (content,)
        response.infer_response.outputs.add(name=name, datatype=kind, shape=[1, len(items)])
        raw = (
            len(content).to_bytes(4, "little") + content
            if is_bytes
            else np.array(items, dtype).tobytes()
        )
        response.infer_response.raw_output_contents.append(raw)
    return response


def progress(share: float, stage: bytes = b"inverting") -> Any:
    return answer(progress=share, stage=stage, step=(round(share * 10), 10))


def edit(request: Request, context: Context) -> Iterator[Any]:
    yield progress(0.1)
    yield progress(0.6, b"generating")
    yield answer(
        progress=1.0,
        stage=b"done",
        step=(10, 10),
        audio=value(request, "audio"),
        sample_rate=48000,
        seed=seed_of(request),
        gain_db=0.0,
        info=json.dumps({"precision": "fp32"}).encode(),
    )


def refuse(code: grpc.StatusCode, text: str, after: float | None = None) -> Script:
    def script(request: Request, context: Context) -> Iterator[Any]:
        if after is not None:
            yield progress(after)
        context.abort(code, text)

    return script


def hang(request: Request, context: Context) -> Iterator[Any]:
    yield progress(0.1)
    while context.is_active():
        time.sleep(0.01)


FULL = refuse(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.stop()


@pytest.fixture
def client(peer: Peer) -> Iterator[MelodyFlowClient]:
    with MelodyFlowClient(peer.address, retry=QUICK) as made:
        yield made


def test_an_edit(peer: Peer, client: MelodyFlowClient) -> None:
    events = list(client.stream(CLIP, variation="celtic", session_id="me", metadata=False))
    assert [event.stage for event in events[:-1]] == ["queued", "inverting", "generating"]
    result = events[-1]
    assert isinstance(result, Result)
    np.testing.assert_array_equal(result.waveform, CLIP[0])
    [request] = peer.requests
    assert request.model_name == "melodyflow"
    assert (request.id, seed_of(request)) == (result.request_id, result.seed)
    assert request.parameters["session_id"].string_param == "me"
    assert request.parameters["metadata"].bool_param is False
    assert "timeout_s" not in request.parameters
    assert peer.metadata[0]["triton_grpc_error"] == "true"
    assert not peer.cancelled.wait(0.2)  # a result is waited out, its stream never cancelled


def test_a_retry_is_the_same_edit(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [FULL, FULL, edit]
    result = client.transform(CLIP, prompt="x", new_take=True)
    assert len(peer.requests) == 3
    assert {seed_of(request) for request in peer.requests} == {result.seed}
    assert {request.id for request in peer.requests} == {result.request_id}


def test_a_server_lost_on_the_way_is_tried_again_and_progress_does_not_fall(
    peer: Peer, client: MelodyFlowClient
) -> None:
    peer.scripts = [refuse(grpc.StatusCode.UNAVAILABLE, "going down", after=0.5), edit]
    events = list(client.stream(CLIP, prompt="x"))
    shares = [event.progress for event in events if isinstance(event, Progress)]
    assert shares == sorted(shares)
    assert isinstance(events[-1], Result)


def test_retries_end(peer: Peer) -> None:
    peer.scripts = [FULL]
    retry = Retry(retries=2, first=0.01)
    with (
        MelodyFlowClient(peer.address, retry=retry) as client,
        pytest.raises(Unavailable, match=r"^Exceeds maximum queue size$") as caught,
    ):
        client.transform(CLIP, prompt="x")
    assert len(peer.requests) == 3
    assert caught.value.request_id == peer.requests[0].id
    assert caught.value.status == "UNAVAILABLE"


def test_retries_end_with_the_timeout(peer: Peer) -> None:
    peer.scripts = [FULL]
    retry = Retry(retries=1000, first=0.05, longest=0.05)
    started = time.monotonic()
    with (
        MelodyFlowClient(peer.address, retry=retry) as client,
        pytest.raises((Unavailable, DeadlineExceeded)),
    ):
        client.transform(CLIP, prompt="x", timeout=1.5)
    assert time.monotonic() - started < 3
    left = [request.parameters["timeout_s"].double_param for request in peer.requests]
    assert len(left) >= 3
    assert left == sorted(left, reverse=True)
    assert all(0 < seconds <= 1.5 for seconds in left)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.INTERNAL, ServerError),
        (grpc.StatusCode.CANCELLED, Cancelled),
    ],
)
def test_other_errors_are_not_tried_again(
    peer: Peer, client: MelodyFlowClient, code: grpc.StatusCode, kind: type[Exception]
) -> None:
    peer.scripts = [refuse(code, "steps: 0; a whole number 1-128"), edit]
    with pytest.raises(kind, match=r"^steps: 0; a whole number 1-128$"):
        client.transform(CLIP, prompt="x")
    assert len(peer.requests) == 1


def test_the_timeout_ends_an_edit(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [hang]
    with pytest.raises(DeadlineExceeded, match=r"^timeout: no result within 1 s"):
        client.transform(CLIP, prompt="x", timeout=1)
    assert peer.cancelled.wait(5)


def test_a_stream_without_a_result_is_an_error(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [lambda request, context: iter([progress(0.1)])]
    with pytest.raises(ServerError, match="ended without a result"):
        client.transform(CLIP, prompt="x")


def test_an_error_inside_the_stream_is_understood(peer: Peer, client: MelodyFlowClient) -> None:
    inside = service_pb2.ModelStreamInferResponse(error_message="prompt: is missing")
    peer.scripts = [lambda request, context: iter([inside])]
    with pytest.raises(ServerError, match=r"^prompt: is missing$"):
        client.transform(CLIP, prompt="x")


def test_no_server() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with MelodyFlowClient(address, retry=Retry(retries=1, first=0.01)) as client:
            with pytest.raises(Unavailable, match=f"^no server answers at {address}"):
                client.transform(CLIP, prompt="x")
            status = client.status()
    assert not status.live
    assert status.error


def test_seeds_are_kept_by_the_sound_not_the_file(peer: Peer, client: MelodyFlowClient) -> None:
    first = client.transform(CLIP, prompt="piano").seed
    assert client.transform(load(CLIP).data, prompt="strings").seed == first
    assert client.transform(CLIP, prompt="strings", new_take=True).seed != first
    assert client.transform(CLIP, prompt="strings", seed=5).seed == 5
    assert client.transform(CLIP, prompt="piano").seed == 5


def test_leaving_the_iterator_cancels(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [hang]
    for event in client.stream(CLIP, prompt="x"):
        if event.stage == "inverting":
            break
    assert peer.cancelled.wait(5)


def test_an_exception_from_on_progress_cancels(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [hang]

    def stop(event: Progress) -> None:
        if event.stage == "inverting":
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        client.transform(CLIP, prompt="x", on_progress=stop)
    assert peer.cancelled.wait(5)


def test_closing_the_client_ends_an_edit_in_flight(peer: Peer) -> None:
    peer.scripts = [hang]
    client = MelodyFlowClient(peer.address, retry=QUICK)
    events = client.stream(CLIP, prompt="x")
    while next(events).stage != "inverting":  # type: ignore[union-attr]
        pass
    client.close()
    with pytest.raises(Cancelled, match="closed"):
        list(events)
    assert peer.cancelled.wait(5)


def test_one_client_serves_many_threads(peer: Peer, client: MelodyFlowClient) -> None:
    def one(seed: int) -> int:
        return client.transform(CLIP, prompt="x", seed=seed).seed

    with futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(16))) == list(range(16))


def test_the_async_twin(peer: Peer) -> None:
    seen: list[str] = []

    async def note(event: Progress) -> None:
        await asyncio.sleep(0)
        seen.append(event.stage)

    async def run() -> list[Result]:
        async with AsyncMelodyFlowClient(peer.address, retry=QUICK) as client:
            first = await client.transform(CLIP, prompt="a", on_progress=note)
            both = await asyncio.gather(
                client.transform(CLIP, prompt="b", on_progress=lambda event: None),
                client.transform(CLIP, prompt="c"),
            )
            return [first, *both]

    peer.scripts = [FULL, edit]
    results = asyncio.run(run())
    assert len({result.seed for result in results}) == 1
    assert seen == ["queued", "queued", "inverting", "generating"]


@pytest.mark.parametrize("way", ["break", "aclose", "task"])
def test_async_ways_to_cancel(peer: Peer, way: str) -> None:
    peer.scripts = [hang]

    async def first_steps(client: AsyncMelodyFlowClient) -> None:
        async for event in client.stream(CLIP, prompt="x"):
            if event.stage == "inverting":
                break

    async def closed(client: AsyncMelodyFlowClient) -> None:
        async with aclosing(client.stream(CLIP, prompt="x")) as events:
            while (await anext(events)).stage != "inverting":  # type: ignore[union-attr]
                pass

    async def cancelled(client: AsyncMelodyFlowClient) -> None:
        task = asyncio.create_task(client.transform(CLIP, prompt="x"))
        while not peer.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def run() -> None:
        async with AsyncMelodyFlowClient(peer.address, retry=QUICK) as client:
            await {"break": first_steps, "aclose": closed, "task": cancelled}[way](client)
            assert await asyncio.to_thread(peer.cancelled.wait, 5)

    asyncio.run(run())


def command(peer: Peer, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "melodyflow_client", *arguments, "--server", peer.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'client'}:{os.environ.get('PYTHONPATH', '')}"},
    )


@pytest.fixture
def riff(tmp_path: Path) -> Path:
    path = tmp_path / "riff.wav"
    path.write_bytes(load(CLIP).data)
    return path


def test_ctrl_c_cancels_the_edit_on_the_server(peer: Peer, riff: Path) -> None:
    peer.scripts = [hang]
    with command(peer, "transform", str(riff), "--prompt", "x", cwd=riff.parent) as process:
        while not peer.requests:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "melodyflow: cancelled"
    assert "Traceback" not in err
    assert peer.cancelled.wait(5)
    assert list(riff.parent.iterdir()) == [riff]


def test_the_command_prints_data_only(peer: Peer, riff: Path) -> None:
    arguments = ["transform", "riff.wav", "--variation", "celtic", "--seed", "7"]
    with command(peer, *arguments, cwd=riff.parent) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "riff-celtic.wav\n"), err
    assert "celtic: queued 0%" in err
    assert "0.100 s, 48000 Hz, 1 channels, peak 0.500, seed 7" in err
    assert (riff.parent / "riff-celtic.wav").is_file()
    with command(peer, *arguments, "--json", "--quiet", cwd=riff.parent) as process:
        out, err = process.communicate(timeout=20)
    assert err == ""
    facts = json.loads(out)
    assert facts["output"] == "riff-celtic-2.wav"  # an earlier take is not lost
    assert (facts["seed"], facts["seconds"], facts["samples"]) == (7, 0.1, 4800)
    assert (facts["sample_rate"], facts["channels"], facts["peak"]) == (48000, 1, 0.5)
    assert facts["info"] == {"precision": "fp32"}
