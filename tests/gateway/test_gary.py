"""A back end of the gary tool chain, by its calls: it posts an edit and reads progress in Redis,
and its own clients hear events from Flask-SocketIO's queue. The Redis is a real one."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import socketio
import uvicorn

from melodyflow.embedded import EmbeddedServer
from melodyflow_gateway.sessions.store import Standing
from melodyflow_gateway.socketio.gary import GaryEvents

from .conftest import PATIENCE, Running, Start, base64_of, decoded, music, until, wav
from .test_redis_restart import MortalRedis

CHANNEL = "flask-socketio"
SESSION = "d1f0c0de-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that back end and gateway have in common."""
    return tmp_path_factory.mktemp("audio_transfer")


@pytest.fixture(scope="module")
def gary(server: EmbeddedServer, start_gateway: Start, redis_url: str, volume: Path) -> Running:
    """A gateway whose sessions are in another database than the keys."""
    return start_gateway(
        server.grpc_url,
        server.metrics_url,
        REDIS_URL=f"{redis_url}?db=3",
        GARY_EVENTS="true",
        SHARED_FOLDER=str(volume),
    )


@pytest.fixture
def keys(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url)  # as the back end: database 0


@pytest.fixture
def heard(keys: redis.Redis) -> Iterator[Any]:
    """What comes through the queue; the first message says that it is listened to."""
    listener = keys.pubsub()
    listener.subscribe(CHANNEL)
    assert listener.get_message(timeout=10)["type"] == "subscribe"
    yield listener
    listener.close()


def events(listener: Any) -> list[dict[str, Any]]:
    """The messages so far."""
    found = []
    while (message := listener.get_message(timeout=0.2)) is not None:
        found.append(json.loads(message["data"]))
    return found


def asked(session: str = SESSION, **changes: object) -> dict[str, object]:
    body = {"audio": base64_of(wav(3)), "variation": "strings_quartet", "session_id": session}
    return {**body, "flowstep": 0.13, "solver": "euler", **changes}


def test_an_edit_is_seen_in_redis(
    gary: Running, keys: redis.Redis, heard: Any, volume: Path
) -> None:
    keys.set(f"progress:{SESSION}", "100")  # of the edit before
    clip = volume / f"input_{SESSION}_0a1b2c3d.wav"
    clip.write_bytes(wav(3))
    body = asked(audio_file_path=str(clip))
    del body["audio"]  # the back end sends nothing but the path
    answer = gary.post("/transform", json=body)
    assert answer.status_code == 200, answer.text
    assert decoded(answer.json()["audio"])[0].shape == music(3).shape
    # What the back end reads, as it reads it.
    assert keys.get(f"progress:{SESSION}") == b"100"
    status = json.loads(keys.get(f"status:{SESSION}"))
    assert status.keys() == {"status", "timestamp"}
    assert status["status"] == "processing"
    for name in ("progress", "status"):
        assert 3500 < keys.ttl(f"{name}:{SESSION}") <= 3600
    assert not keys.keys("melodyflow:*")  # those are in the gateway's database

    said = events(heard)
    assert said
    for message in said:
        assert (message["method"], message["namespace"]) == ("emit", "/")
        assert message["room"] == SESSION
        assert message["data"][0]["session_id"] == SESSION
    names = [message["event"] for message in said]
    assert set(names) == {"queue_status", "progress_update"}
    assert names == sorted(names, reverse=True)  # queued first
    shares = [one["data"][0]["progress"] for one in said if one["event"] == "progress_update"]
    assert shares == sorted(shares)
    assert shares[-1] == 100


def test_progress_falls_to_zero_when_an_edit_starts(gary: Running, keys: redis.Redis) -> None:
    session = "starts-anew"
    keys.set(f"progress:{session}", "100")
    body = asked(session, steps=128, audio_data=base64_of(wav(20)))
    assert gary.post("/api/juce/transform_audio", json=body).status_code == 200
    assert until(lambda: int(keys.get(f"progress:{session}")) < 100)
    assert gary.get(f"/api/juce/poll_status/{session}").json()["transform_in_progress"]
    body = asked(session, steps=1, audio_data=base64_of(wav()))
    assert gary.post("/api/juce/transform_audio", json=body).status_code == 200
    assert until(lambda: keys.get(f"progress:{session}") == b"100")


def test_a_warming_server_is_seen(start_gateway: Start, redis_url: str, heard: Any) -> None:
    lonely = start_gateway("127.0.0.1:1", "127.0.0.1:1", REDIS_URL=redis_url, GARY_EVENTS="true")
    body = asked("warms", audio_data=base64_of(wav()), timeout_s=4)
    assert lonely.post("/api/juce/transform_audio", json=body).status_code == 200
    said: list[dict[str, Any]] = []

    def warming() -> bool:
        said.extend(events(heard))
        return any(one["data"][0].get("status") == "warming" for one in said)

    assert until(warming)
    assert {one["event"] for one in said} == {"queue_status"}
    status = redis.Redis.from_url(redis_url).get("status:warms")
    assert json.loads(status)["status"] == "warming"


def test_clients_in_the_sessions_room_of_a_back_end_hear_it(gary: Running, redis_url: str) -> None:
    """The back end is a Socket.IO server on the same queue, as Flask-SocketIO makes one."""
    manager = socketio.AsyncRedisManager(redis_url, channel=CHANNEL)
    back_end = socketio.AsyncServer(async_mode="asgi", client_manager=manager)

    async def enter(sid: str, room: str) -> None:
        await back_end.enter_room(sid, room)

    back_end.on("enter", enter)
    told: list[tuple[str, dict[str, Any]]] = []

    async def play() -> None:
        web = uvicorn.Server(uvicorn.Config(socketio.ASGIApp(back_end), port=0, log_level="error"))
        serving = asyncio.create_task(web.serve())
        while not web.started:
            await asyncio.sleep(0.01)
        port = web.servers[0].sockets[0].getsockname()[1]
        client = socketio.AsyncClient(reconnection=False)
        client.on("*", lambda event, data: told.append((event, data)))
        await client.connect(f"http://127.0.0.1:{port}", transports=["websocket"])
        await client.call("enter", "in-the-room")
        async with asyncio.timeout(PATIENCE):
            while {"progress": 100, "session_id": "in-the-room"} not in [data for _, data in told]:
                for session in ("in-the-room", "elsewhere"):
                    body = asked(session, steps=2)
                    answer = await asyncio.to_thread(gary.post, "/transform", json=body)
                    assert answer.status_code == 200, answer.text
        await client.disconnect()
        manager.thread.cancel()
        web.should_exit = True
        await serving

    asyncio.run(play())
    assert {event for event, _ in told} <= {"queue_status", "progress_update"}
    assert {data["session_id"] for _, data in told} == {"in-the-room"}


@pytest.fixture
def own_redis(tmp_path: Path, redis_url: str) -> Iterator[MortalRedis]:
    mortal = MortalRedis(tmp_path)
    mortal.start()
    yield mortal
    mortal.kill()


def test_a_redis_that_is_gone_or_hangs_costs_no_edit(
    server: EmbeddedServer, start_gateway: Start, own_redis: MortalRedis
) -> None:
    gateway = start_gateway(
        server.grpc_url, server.metrics_url, REDIS_URL=own_redis.url, GARY_EVENTS="true"
    )
    own = redis.Redis(unix_socket_path=str(own_redis.path))
    assert gateway.post("/transform", json=asked(steps=4)).status_code == 200
    assert own_redis.process is not None
    os.kill(own_redis.process.pid, signal.SIGSTOP)
    try:
        answer = gateway.post("/transform", json=asked(steps=4))
        assert answer.status_code == 200, answer.text
    finally:
        os.kill(own_redis.process.pid, signal.SIGCONT)
    own_redis.kill()
    assert gateway.post("/transform", json=asked(steps=4)).status_code == 200
    own_redis.start()
    assert gateway.post("/transform", json=asked("back", steps=4)).status_code == 200
    assert own.get("progress:back") == b"100"


def test_after_the_end_nothing_is_written(own_redis: MortalRedis) -> None:
    """A back end that hears of the end writes it; what is still on its way must not undo that."""
    own = redis.Redis(unix_socket_path=str(own_redis.path))

    async def play() -> None:
        writer = GaryEvents(own_redis.url)
        assert own_redis.process is not None
        running = Standing(status="processing", progress=50.0)
        writer.tell("slow", running)
        await writer.settle("slow")
        assert own.get("progress:slow") == b"50"
        os.kill(own_redis.process.pid, signal.SIGSTOP)
        for number in range(100):
            writer.tell("slow", Standing(status="processing", progress=float(number)))
            writer.tell("other", running)
        await writer.settle("slow")
        os.kill(own_redis.process.pid, signal.SIGCONT)
        await asyncio.sleep(0.2)
        own.set("status:slow", "completed")
        await writer.settle("other")
        assert own.get("status:slow") == b"completed"
        await writer.close()

    asyncio.run(play())
