"""A server that goes away during edits, and may come back: no edit is lost or made twice.

The peer acts out each form in which a real server was seen to go; tests/gateway/test_outage.py
kills a real one.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from melodyflow_client import (
    AsyncMelodyFlowClient,
    Cancelled,
    DeadlineExceeded,
    MelodyFlowClient,
    MelodyFlowError,
    Progress,
    Result,
    Retry,
    ServerError,
    Unavailable,
    load_presets,
    outage,
)
from melodyflow_client.audio import load

from .client_peer import (
    CLIP,
    FULL,
    Context,
    Peer,
    Relay,
    Request,
    Script,
    answer,
    command,
    edit,
    hang,
    progress,
    refuse,
    say,
    seed_of,
)

QUICK = Retry(retries=2, first=0.01, longest=0.02, patience=20)
BRIEF = Retry(retries=2, first=0.01, longest=0.02, patience=0.5)
MELODY = (np.sin(np.arange(480_000, dtype=np.float32) / 9)[None], 48000)  # 2 MB


def end(after: float | None) -> Script:
    """The stream just ends."""
    return lambda request, context: iter([] if after is None else [progress(after)])


def out(status: str, text: str) -> Callable[[float | None], Script]:
    return lambda after: refuse(grpc.StatusCode[status], text, after)


def of_another(after: float | None) -> Script:
    """A valid response that belongs to another request."""

    def script(request: Request, context: Context) -> Iterator[Any]:
        if after is not None and after < 0.9:
            yield progress(after)
        *_, response = edit(request, context)
        response.infer_response.id = "a stranger's"
        yield response

    return script


def inside(text: str) -> Callable[[float | None], Script]:
    return lambda after: say(text, after)


FORMS: dict[str, Callable[[float | None], Script]] = {
    "closed": out("UNAVAILABLE", "Socket closed"),
    "refused": out("UNAVAILABLE", "failed to connect to all addresses"),
    "removed": out("UNKNOWN", "Stream removed"),
    "unknown": out("UNKNOWN", "Received RST_STREAM with error code 2"),
    "internal": out("INTERNAL", "Received RST_STREAM with error code 2"),
    "cancelled": out("CANCELLED", "Cancelled on the server side"),
    "ended": end,
    "draining": inside("the server is shutting down; try again [UNAVAILABLE]"),
    "draining as of old": inside("the server is shutting down; try again"),
    "unloaded": inside("Request for unknown model: 'melodyflow' has no available versions"),
    "stopping": inside("Server is stopping, scheduler for model has stopped accepting"),
    "without its model": inside("Stub process 'melodyflow_0_0' is not healthy."),
    "mixed up": of_another,
    "mixed up on the way": inside(
        "unexpected number of string elements 2 for inference input 'audio', expecting 1"
    ),
    "misread": inside(
        "incomplete string data for inference input 'audio', expecting string of length 1009441136 "
        "but only 6444 bytes available"
    ),
    "in mid-request": out("INTERNAL", "Internal error from Core"),
    "behind a proxy": out(
        "UNAVAILABLE",
        "upstream connect error or disconnect/reset before headers. reset reason: connection "
        "termination",
    ),
    "behind a proxy, in mid-edit": out(
        "INTERNAL", "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"
    ),
    "without its loop": inside("the server's step loop died; the server restarts [INTERNAL]"),
}
MOMENTS = {"before a response": None, "in mid-edit": 0.5, "on the result": 0.99}


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.stop()


@pytest.fixture
def client(peer: Peer) -> Iterator[MelodyFlowClient]:
    """A client that the peer has answered before."""
    with MelodyFlowClient(peer.address, retry=QUICK) as made:
        made.transform(CLIP, prompt="x")
        peer.requests.clear()
        yield made


def stages_of(events: list[Progress | Result]) -> list[str]:
    return [event.stage for event in events if isinstance(event, Progress)]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("form", FORMS)
def test_an_edit_goes_on_when_its_server_is_back(
    peer: Peer, client: MelodyFlowClient, form: str, moment: str
) -> None:
    peer.scripts = [FORMS[form](MOMENTS[moment]), edit]
    events = list(client.stream(CLIP, prompt="x"))
    assert stages_of(events)[:1] == ["queued"]
    assert stages_of(events)[-3:] == ["warming", "inverting", "generating"]
    shares = [event.progress for event in events if isinstance(event, Progress)]
    assert shares == sorted(shares)
    assert [type(event) for event in events].count(Result) == 1
    result = events[-1]
    assert isinstance(result, Result)
    assert {request.id for request in peer.requests} == {result.request_id}
    assert {seed_of(request) for request in peer.requests} == {result.seed}
    assert len(peer.requests) == 2


@pytest.mark.parametrize(
    ("form", "kind", "tries"),
    [
        ("closed", Unavailable, 3),
        ("refused", Unavailable, 3),
        ("removed", Unavailable, 3),
        ("internal", Unavailable, 3),
        ("cancelled", Cancelled, 1),
        ("ended", ServerError, 1),
    ],
)
def test_a_server_that_never_answered_is_not_waited_for(
    peer: Peer, form: str, kind: type[MelodyFlowError], tries: int
) -> None:
    peer.scripts = [FORMS[form](None)]
    seen: list[str] = []
    with (
        MelodyFlowClient(peer.address, retry=QUICK) as client,
        pytest.raises(kind) as caught,
    ):
        client.transform(CLIP, prompt="x", on_progress=lambda event: seen.append(event.stage))
    assert type(caught.value) is kind
    assert (len(peer.requests), seen) == (tries, ["queued"] * tries)


@pytest.mark.parametrize(
    "text",
    [
        "no healthy upstream",
        "upstream connect error or disconnect/reset before headers. reset reason: connection "
        "timeout",
        "Received http2 header with status: 503",
    ],
)
def test_a_proxy_without_servers_is_waited_for_from_the_first_edit_on(
    peer: Peer, text: str
) -> None:
    """What answers there shows that the address is right."""
    peer.scripts = [*[out("UNAVAILABLE", text)(None)] * 4, edit]
    with MelodyFlowClient(peer.address, retry=QUICK) as client:
        events = list(client.stream(CLIP, prompt="x"))
    assert stages_of(events)[:5] == ["queued", *["warming"] * 4]
    assert isinstance(events[-1], Result)
    assert len(peer.requests) == 5 > QUICK.retries + 1


def test_a_server_killed_during_an_edit_and_during_its_result(peer: Peer) -> None:
    """Its client sees the connection reset."""
    relay = Relay(peer)
    peer.scripts = [edit, hang, edit]
    with MelodyFlowClient(relay.address, retry=QUICK) as client:
        client.transform(MELODY, prompt="x")
        events = []
        for event in client.stream(MELODY, prompt="x"):
            events.append(event)
            if len(events) == 2:
                relay.cut()
        assert stages_of(events)[1:] == ["inverting", "warming", "inverting", "generating"]
        assert len(peer.requests) == 3

        relay.cut_after = 500_000  # bytes, in the middle of the result
        again = list(client.stream(MELODY, prompt="x"))
        assert "warming" in stages_of(again)
        for each in (events, again):
            [result] = [event for event in each if isinstance(event, Result)]
            np.testing.assert_array_equal(result.waveform, MELODY[0])
        assert len({request.id for request in peer.requests[3:]}) == 1
    relay.stop()


def test_a_stream_that_breaks_after_the_result_loses_nothing(
    peer: Peer, client: MelodyFlowClient
) -> None:
    def then_gone(request: Request, context: Context) -> Iterator[Any]:
        yield from edit(request, context)
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    peer.scripts = [then_gone]
    events = list(client.stream(CLIP, prompt="x"))
    assert [type(event) for event in events].count(Result) == 1
    assert len(peer.requests) == 1


def test_a_server_restarted_on_the_same_port(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [hang]
    events = []
    again: list[Peer] = []
    for event in client.stream(CLIP, prompt="x", timeout=60):
        events.append(event)
        if len(events) == 2:
            peer.stop()
        elif stages_of(events).count("warming") == 3 and not again:
            again.append(Peer(peer.port))
    again[0].stop()
    assert isinstance(events[-1], Result)
    [request] = again[0].requests
    assert request.id == peer.requests[0].id
    assert seed_of(request) == seed_of(peer.requests[0])
    assert 0 < request.parameters["timeout_s"].double_param < 60


def test_patience_ends_once_for_all_edits(peer: Peer) -> None:
    with MelodyFlowClient(peer.address, retry=BRIEF) as client:
        client.transform(CLIP, prompt="x")
        peer.stop()
        started = time.monotonic()
        with pytest.raises(Unavailable, match=f"^no server answers at {peer.address}: ") as caught:
            client.transform(CLIP, prompt="x")
        assert 0.5 <= time.monotonic() - started < 3
        assert (caught.value.status, bool(caught.value.request_id)) == ("UNAVAILABLE", True)
        # A later edit is tried as if the server had never been there.
        seen: list[str] = []
        with pytest.raises(Unavailable):
            client.transform(CLIP, prompt="x", on_progress=lambda event: seen.append(event.stage))
        assert seen == ["queued"] * 3
        # An answer ends the outage; patience starts over.
        again = Peer(peer.port)
        client.transform(CLIP, prompt="x", timeout=20)
        again.stop()
        started = time.monotonic()
        with pytest.raises(Unavailable):
            client.transform(CLIP, prompt="x")
        assert 0.5 <= time.monotonic() - started < 3


def test_an_edit_with_a_timeout_waits_until_then_instead_of_for_patience(peer: Peer) -> None:
    with MelodyFlowClient(peer.address, retry=BRIEF) as client:
        client.transform(CLIP, prompt="x")
        peer.stop()
        started = time.monotonic()
        with pytest.raises((Unavailable, DeadlineExceeded)):
            client.transform(CLIP, prompt="x", timeout=2.5)
        assert 1.9 < time.monotonic() - started < 3.5


def test_without_retries_nothing_is_sent_twice(peer: Peer) -> None:
    with MelodyFlowClient(peer.address, retry=Retry(retries=0)) as client:
        client.transform(CLIP, prompt="x")
        peer.scripts = [FORMS["closed"](0.5)]
        with pytest.raises(Unavailable, match=r"^Socket closed$"):
            client.transform(CLIP, prompt="x")
    assert len(peer.requests) == 2


def test_an_edit_that_crashes_every_server_fails(
    peer: Peer, client: MelodyFlowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "_MOST_LOSSES", 3)
    peer.scripts = [FORMS["closed"](0.5)]
    with pytest.raises(Unavailable, match=r"^Socket closed$"):
        client.transform(CLIP, prompt="x")
    assert len(peer.requests) == 4


def test_a_full_queue_is_not_an_outage(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [FULL]
    seen: list[str] = []
    with pytest.raises(Unavailable, match="Exceeds maximum queue size"):
        client.transform(CLIP, prompt="x", on_progress=lambda event: seen.append(event.stage))
    assert seen == ["queued"] * 3
    assert len(peer.requests) == 3


def test_closing_the_client_ends_its_wait(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [FORMS["closed"](None)]
    events = client.stream(CLIP, prompt="x")
    while next(events).stage != "warming":  # type: ignore[union-attr]
        pass
    client.close()
    sent = len(peer.requests)
    with pytest.raises(Cancelled, match="closed"):
        list(events)
    time.sleep(0.5)
    assert len(peer.requests) <= sent + 1


def test_a_sweep_waits_only_once_for_a_server_that_never_returns(peer: Peer) -> None:
    with MelodyFlowClient(peer.address, retry=BRIEF) as client:
        client.transform(CLIP, prompt="x")
        peer.stop()
        started = time.monotonic()
        results = list(client.sweep(CLIP, concurrency=2))
        assert time.monotonic() - started < 5
    assert sorted(done.variation for done in results) == sorted(load_presets())
    assert all(isinstance(done.error, Unavailable) for done in results)


def test_a_sweep_and_takes_survive_a_server_that_goes_away(
    peer: Peer, client: MelodyFlowClient
) -> None:
    lost = FORMS["closed"](0.5)
    peer.scripts = [edit, lost, lost, edit]
    names = ["celtic", "chiptune", "music_box", "trap_808"]
    results = list(client.sweep(CLIP, names, concurrency=2))
    assert sorted(done.variation for done in results if done.result) == names
    assert len(peer.requests) == 6
    assert len({request.id for request in peer.requests}) == 4
    peer.requests.clear()
    taken = list(client.takes(CLIP, 3, concurrency=3, variation="celtic", seed=5))
    assert sorted(done.seed for done in taken if done.result) == [5, 6, 7]
    assert len(peer.requests) == 5


def test_text_to_music_and_the_async_twin(peer: Peer) -> None:
    def music(request: Request, context: Context) -> Iterator[Any]:
        audio = load(CLIP).data
        yield answer(audio=audio, sample_rate=48000, seed=seed_of(request), gain_db=0.0)

    async def run() -> None:
        seen: list[str] = []
        async with AsyncMelodyFlowClient(peer.address, retry=QUICK) as client:
            await client.generate("x", duration=1)
            assert not client.away
            result = await client.generate(
                "x", duration=1, seed=7, on_progress=lambda event: seen.append(event.stage)
            )
            assert (result.seed, seen) == (7, ["queued", "generating", "warming"])

    peer.scripts = [music, say("the server is shutting down; try again", 0.5), music]
    stage = progress(0.5, b"generating")
    peer.scripts[1] = lambda request, context: iter([stage])
    asyncio.run(run())


def test_the_command_shows_that_it_waits(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "riff.wav").write_bytes(load(CLIP).data)
    peer.scripts = [FORMS["closed"](0.5), edit]
    arguments = ["transform", "riff.wav", "--variation", "celtic", "--json"]
    with command(peer, *arguments, cwd=tmp_path) as process:
        stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["samples"] == 4800
    assert "celtic: warming 50%\n" in stderr
