"""Two gateways, one Redis, one server: whichever is asked, the answer is the same."""

import asyncio
import time

import pytest
from redis import Redis

from melodyflow.embedded import EmbeddedServer

from .conftest import PATIENCE, Running, Start, base64_of, decoded, music, until, wav
from .test_socketio import Client, connected, request

BEGIN, POLL, UNDO = (
    f"/api/juce/{name}" for name in ("transform_audio", "poll_status", "undo_transform")
)


@pytest.fixture(scope="module")
def both(server: EmbeddedServer, start_gateway: Start, redis_url: str) -> tuple[Running, Running]:
    first, second = (
        start_gateway(server.grpc_url, server.metrics_url, REDIS_URL=redis_url) for _ in range(2)
    )
    return first, second


def begin(gateway: Running, session: str, **changes: object) -> dict[str, object]:
    body = {"audio_data": base64_of(wav()), "variation": "celtic", "session_id": session, **changes}
    answer = gateway.post(BEGIN, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def finished(gateway: Running, session: str) -> dict[str, object]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        answer = gateway.get(f"{POLL}/{session}")
        assert answer.status_code == 200, answer.text
        state = answer.json()
        if not state["transform_in_progress"]:
            return state  # type: ignore[no-any-return]
        time.sleep(0.1)
    raise AssertionError(state)


def test_a_job_of_one_is_polled_and_undone_on_the_other(both: tuple[Running, Running]) -> None:
    first, second = both
    begun = begin(first, "shared", steps=64)
    done = finished(second, "shared")
    assert (done["status"], done["seed"]) == ("completed", begun["seed"])
    assert decoded(str(done["audio_data"]))[0].shape == music().shape
    undone = second.post(UNDO, json={"session_id": "shared"}).json()
    assert undone["audio_data"] == base64_of(wav())
    kept = begin(second, "shared", variation="chiptune", steps=1, new_take=False)
    assert kept["seed"] == begun["seed"]


def test_a_new_job_on_the_other_ends_the_one_that_runs(both: tuple[Running, Running]) -> None:
    first, second = both
    cancelled = 'melodyflow_gateway_edits_total{api="juce",outcome="cancelled"}'
    before = first.metric(cancelled)
    begin(first, "moved", audio_data=base64_of(wav(20, 140)), steps=128)
    begin(second, "moved", steps=2, seed=5)
    assert until(lambda: first.metric(cancelled) == before + 1)
    assert finished(first, "moved")["seed"] == 5


def test_events_reach_the_room_whichever_gateway_its_clients_are_at(
    both: tuple[Running, Running],
) -> None:
    first, second = both

    async def play() -> tuple[Client, Client, Client]:
        async with (
            connected(first) as worker,
            connected(second) as listener,
            connected(second) as stranger,
        ):
            for client, session in ((worker, "room"), (listener, "room"), (stranger, "other")):
                await client.socket.emit(
                    "transform_audio_request", request(session_id=session, steps=1)
                )
                await client.wait_for("audio_transformed", "error")
            for client in (worker, listener, stranger):
                client.got.clear()
            asked = request(session_id="room", steps=64, previews=2)
            await worker.socket.emit("transform_audio_request", asked)
            await listener.wait_for("audio_transformed")
            await worker.wait_for("audio_transformed")
            return worker, listener, stranger

    worker, listener, stranger = asyncio.run(play())
    assert stranger.got == []
    assert worker.of("preview")
    own = ("transform_audio_received", "preview")  # the other gateway has no preview to fetch
    assert [event for event in worker.got if event[0] not in own] == listener.got


def test_a_result_reaches_the_room_whatever_its_size(
    both: tuple[Running, Running], redis_url: str
) -> None:
    """Redis cuts off a subscriber with too much before it: 32 MiB, or here 1 MiB."""
    first, second = both
    limit, redis = "client-output-buffer-limit", Redis.from_url(redis_url)
    before = redis.config_get(limit)[limit]
    clip = wav(12)
    assert len(clip) > 2 * 2**20

    async def play() -> list[Client]:
        async with connected(first) as worker, connected(second) as listener:
            for client in (listener, worker):
                asked = request(audio_data=base64_of(clip), session_id="large", steps=1)
                await client.socket.emit("transform_audio_request", asked)
                await client.wait_for("audio_transformed", "error")
            await worker.socket.emit("undo_transform_request", {"session_id": "large"})
            for client in (listener, worker):
                await client.wait_for("transform_undone", "error")
            async with asyncio.timeout(PATIENCE):
                while len(listener.of("audio_transformed")) < 2:
                    await asyncio.sleep(0.05)
            return [worker, listener]

    try:
        redis.config_set(limit, "pubsub 1mb 1mb 1")
        worker, listener = asyncio.run(play())
    finally:
        redis.config_set(limit, before)
        redis.close()
    assert listener.of("audio_transformed")[-1] == worker.of("audio_transformed")[-1]
    for client in (worker, listener):
        assert client.of("transform_undone")[0]["audio_data"] == base64_of(clip)
        assert client.of("error") == []


def test_an_edit_outlives_what_redis_forgets(both: tuple[Running, Running], redis_url: str) -> None:
    first, second = both
    begin(first, "evicted", steps=128, audio_data=base64_of(wav(5, 111)))
    assert until(lambda: second.get(f"{POLL}/evicted").json()["progress"] > 0)
    with Redis.from_url(redis_url) as redis:
        redis.flushall()
    assert until(lambda: second.get(f"{POLL}/evicted").status_code == 200)
    assert finished(second, "evicted")["status"] == "completed"


def test_a_job_whose_gateway_dies_is_not_waited_for(
    server: EmbeddedServer, start_gateway: Start, redis_url: str, both: tuple[Running, Running]
) -> None:
    doomed = start_gateway(server.grpc_url, server.metrics_url, REDIS_URL=redis_url)
    begin(doomed, "orphan", audio_data=base64_of(wav(20, 120)), steps=128)
    doomed.process.kill()
    doomed.process.wait()
    state = finished(both[0], "orphan")
    assert state["status"] == "failed"
    assert "gone" in str(state["error"])
