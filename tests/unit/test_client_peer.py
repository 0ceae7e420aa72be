"""The clients against a real gRPC peer that answers as scripted: retries, cancellation, deadlines.

What the real server does is tests/server's subject; here is what it cannot be made to do at will.
"""

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from melodyflow_client import (
    AsyncMelodyFlowClient,
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    MelodyFlowClient,
    MelodyFlowError,
    Progress,
    Result,
    Retry,
    ServerError,
    Unavailable,
)
from melodyflow_client.audio import load
from melodyflow_client.protocol import plan

from .client_peer import CLIP, FULL, QUICK, Peer, command, edit, hang, refuse, say, seed_of


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
    assert "triton_grpc_error" not in peer.metadata[0]  # it crashes Triton 2.51
    assert not peer.cancelled.wait(0.2)  # after a result the stream ends by itself


def test_a_retry_is_the_same_edit(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [FULL, FULL, edit]
    result = client.transform(CLIP, prompt="x", new_take=True)
    assert len(peer.requests) == 3
    assert {seed_of(request) for request in peer.requests} == {result.seed}
    assert {request.id for request in peer.requests} == {result.request_id}


def test_an_edit_that_loses_its_server_is_sent_again_and_progress_never_falls(
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


@pytest.mark.parametrize(
    ("timeout", "kind", "message"),
    [
        (None, ServerError, "the request could not be sent"),
        (0.2, DeadlineExceeded, "timeout: no result within 0.2 s"),
    ],
)
def test_a_request_that_is_not_sent_is_no_closed_client(
    peer: Peer, timeout: float | None, kind: type[MelodyFlowError], message: str
) -> None:
    @asynccontextmanager
    async def sending() -> AsyncIterator[None]:
        if timeout is not None:
            time.sleep(timeout)  # gRPC learns of the deadline only after this
        raise MemoryError
        yield

    async def run() -> None:
        async with AsyncMelodyFlowClient(peer.address) as client:
            planned = plan({"prompt": "x", "timeout": timeout}, client.presets)
            async for _ in client.run(load(CLIP), planned, sending=sending):
                pass

    with pytest.raises(kind, match=f"^{message}"):
        asyncio.run(run())
    assert peer.requests == []


def test_a_stream_without_any_response_is_an_error(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [lambda request, context: iter([])]
    with pytest.raises(ServerError, match="ended without a result"):
        client.transform(CLIP, prompt="x")
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    ("text", "kind", "status", "message"),
    [
        (
            "prompt: missing [INVALID_ARGUMENT]",
            InvalidRequest,
            "INVALID_ARGUMENT",
            "prompt: missing",
        ),
        ("prompt: missing", InvalidRequest, "INVALID_ARGUMENT", "prompt: missing"),
        ("it failed [INTERNAL]", ServerError, "INTERNAL", "it failed"),
        ("it failed", ServerError, "UNKNOWN", "it failed"),
        ("cancelled [CANCELLED]", Cancelled, "CANCELLED", "cancelled"),
        (
            "timeout_s: 1 s [DEADLINE_EXCEEDED]",
            DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            "timeout_s: 1 s",
        ),
    ],
)
def test_an_error_inside_the_stream_becomes_its_exception(
    peer: Peer,
    client: MelodyFlowClient,
    text: str,
    kind: type[MelodyFlowError],
    status: str,
    message: str,
) -> None:
    peer.scripts = [edit, say(text, after=0.1)]
    client.transform(CLIP, prompt="x")
    with pytest.raises(kind) as caught:
        client.transform(CLIP, prompt="x")
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.status) == (message, status)
    assert caught.value.request_id == peer.requests[1].id
    assert len(peer.requests) == 2  # not tried again
    assert not peer.cancelled.wait(0.2)  # nor cancelled: Triton ends the stream itself


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


def test_seeds_are_kept_by_audio_not_by_file(peer: Peer, client: MelodyFlowClient) -> None:
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
    assert "0.100 s, 48000 Hz, 1 channel, peak 0.500, seed 7" in err
    assert (riff.parent / "riff-celtic.wav").is_file()
    with command(peer, *arguments, "--json", "--quiet", cwd=riff.parent) as process:
        out, err = process.communicate(timeout=20)
    assert err == ""
    facts = json.loads(out)
    assert facts["output"] == "riff-celtic-2.wav"  # an earlier take is not lost
    assert (facts["seed"], facts["seconds"], facts["samples"]) == (7, 0.1, 4800)
    assert (facts["sample_rate"], facts["channels"], facts["peak"]) == (48000, 1, 0.5)
    assert facts["info"] == {"precision": "fp32"}
