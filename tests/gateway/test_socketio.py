"""Socket.IO clients: events by session, over both transports."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import socketio
from socketio.exceptions import ConnectionError as Refused

from melodyflow.embedded import EmbeddedServer

from .conftest import PATIENCE, TOKEN, Running, Start, base64_of, decoded, music, until, wav
from .sse import midpoint

Metrics = Callable[[], dict[str, float]]
EVENTS = (
    "progress_update",
    "queue_status",
    "preview",
    "audio_transformed",
    "transform_undone",
    "error",
    "transform_audio_received",
)


class Client:
    """A Socket.IO client that keeps what it is sent."""

    def __init__(self) -> None:
        self.socket = socketio.AsyncClient(reconnection=False)
        self.got: list[tuple[str, dict[str, Any]]] = []
        self._more = asyncio.Event()
        for name in EVENTS:
            self.socket.on(name, self._keeper(name))

    def _keeper(self, name: str) -> Callable[[dict[str, Any]], None]:
        def keep(data: dict[str, Any]) -> None:
            self.got.append((name, data))
            self._more.set()

        return keep

    def of(self, name: str) -> list[dict[str, Any]]:
        return [data for found, data in self.got if found == name]

    async def wait_for(self, *names: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while True:
                for name in names:
                    if self.of(name):
                        return self.of(name)[0]
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def connected(gateway: Running, **options: Any) -> AsyncIterator[Client]:
    client = Client()
    await client.socket.connect(gateway.url, wait_timeout=30, **options)
    try:
        yield client
    finally:
        # Over polling the library's own disconnect() waits for half a minute.
        if client.socket.transport() == "websocket":
            await client.socket.disconnect()
        else:
            await client.socket.eio.disconnect(abort=True)


def request(**changes: object) -> dict[str, object]:
    body = {"audio_data": base64_of(wav()), "variation": "celtic", "flowstep": 0.13, "steps": 128}
    return {**body, **changes}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_room_gets_its_events_and_no_other(gateway: Running, transport: str) -> None:
    name = f"room-{transport}"

    async def play() -> tuple[Client, Client]:
        async with (
            connected(gateway, transports=[transport]) as client,
            connected(gateway, transports=[transport]) as other,
        ):
            # Both are in a room of their own; the other's edit is over and done.
            await other.socket.emit("transform_audio_request", request(session_id="x", steps=1))
            await other.wait_for("audio_transformed")
            other.got.clear()
            await client.socket.emit("transform_audio_request", request(session_id=name))
            await client.wait_for("audio_transformed", "error")
            await client.socket.emit("undo_transform_request", {"session_id": name})
            await client.wait_for("transform_undone", "error")
            return client, other

    client, other = asyncio.run(play())
    assert other.got == []
    assert client.of("error") == []
    assert client.got[0] == ("transform_audio_received", {"session_id": name})
    assert all(data["session_id"] == name for _, data in client.got)
    for status in client.of("queue_status"):
        assert status.keys() == {
            "status",
            "message",
            "position",
            "total_queued",
            "estimated_time",
            "estimated_seconds",
            "session_id",
        }
    shares = [data["progress"] for data in client.of("progress_update")]
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert shares == [round(share, 2) for share in shares]
    result = client.of("audio_transformed")[0]
    assert result.keys() == {"audio_data", "session_id", "variation", "seed"}
    assert (decoded(result["audio_data"])[0].shape, result["variation"]) == (
        music().shape,
        "celtic",
    )
    assert client.of("transform_undone")[0]["audio_data"] == base64_of(wav())
    kept = request(audio=base64_of(wav()), session_id=name, steps=1, new_take=False)
    assert gateway.post("/transform", json=kept).headers["X-Melodyflow-Seed"] == str(result["seed"])


def test_data_may_be_json_in_a_string_and_names_have_stray_characters(gateway: Running) -> None:
    """As clients in Swift send it."""

    def swift(**fields: object) -> str:
        return json.dumps(fields).replace("/", "\\/")

    async def play() -> Client:
        async with connected(gateway) as client:
            asked = swift(**request(session_id=" \\swift\\ ", steps=2))
            await client.socket.emit("transform_audio_request", asked)
            await client.wait_for("audio_transformed", "error")
            await client.socket.emit("undo_transform_request", swift(session_id="swift\\"))
            await client.wait_for("transform_undone", "error")
            return client

    client = asyncio.run(play())
    assert client.of("error") == []
    assert client.of("transform_audio_received") == [{"session_id": "swift"}]
    assert client.of("audio_transformed")[0]["session_id"] == "swift"
    assert client.of("transform_undone")[0]["audio_data"] == base64_of(wav())


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("audio_request", {"audio_data": base64_of(wav(5)), "session_id": "foreign\\"}),
        ("continue_music_request", json.dumps({"audio_data": "UklG", "session_id": "foreign"})),
        ("update_cropped_audio", {"session_id": "foreign", "audio_data": "UklG"}),
        ("audio_chunk", {"chunk": "A" * 2**17}),
        ("cleanup_session_request", None),
        ("trigger_event", {}),
        ("on_connect", {}),
    ],
)
def test_events_of_other_services_are_refused_by_name(
    gateway: Running, event: str, data: object
) -> None:
    async def play() -> dict[str, Any]:
        async with connected(gateway) as client:
            await client.socket.emit(event, data)
            return await client.wait_for("error")

    error = asyncio.run(play())
    assert error["code"] == 404
    assert error["message"] == (
        f"{event!r}: no event of this service; "
        "it takes transform_audio_request, undo_transform_request, request_progress_status"
    )
    known = "foreign" in str(data)
    assert error["session_id"] == ("foreign" if known else None)


def test_a_session_without_a_name_is_given_one(gateway: Running) -> None:
    async def play() -> Client:
        async with connected(gateway) as client:
            await client.socket.emit("transform_audio_request", request(steps=2))
            await client.wait_for("audio_transformed", "error")
            return client

    client = asyncio.run(play())
    name = client.of("transform_audio_received")[0]["session_id"]
    assert len(name) >= 32
    assert client.of("audio_transformed")[0]["session_id"] == name


@pytest.mark.parametrize(
    ("event", "data", "code", "begins"),
    [
        ("transform_audio_request", request(audio_data="x"), 400, "audio_data: 'x'"),
        ("transform_audio_request", request(variation="kazoo"), 404, "variation: "),
        ("transform_audio_request", request(audio_data=base64_of(wav(0.05))), 400, "audio: "),
        ("transform_audio_request", "words", 400, "data: "),
        ("undo_transform_request", {"session_id": "nobody"}, 404, "session_id: 'nobody'"),
        ("undo_transform_request", {}, 400, "session_id: is missing"),
    ],
)
def test_what_is_wrong_is_an_event(
    gateway: Running, event: str, data: object, code: int, begins: str
) -> None:
    async def play() -> dict[str, Any]:
        async with connected(gateway) as client:
            await client.socket.emit(event, data)
            return await client.wait_for("error")

    error = asyncio.run(play())
    assert error["code"] == code
    assert error["message"].startswith(begins)
    assert "session_id" in error


def test_leaving_cancels_the_edit(gateway: Running, metrics: Metrics) -> None:
    cancelled = 'melodyflow_edits_total{outcome="cancelled"}'
    before = metrics()[cancelled]

    async def play() -> None:
        async with connected(gateway) as client:
            long = request(audio_data=base64_of(wav(20, 170)), session_id="leaver")
            await client.socket.emit("transform_audio_request", long)
            await client.wait_for("progress_update")

    asyncio.run(play())
    assert until(lambda: metrics()[cancelled] == before + 1)
    state = gateway.get("/api/juce/poll_status/leaver").json()
    assert state["status"] == "failed"


def test_leaving_as_soon_as_it_is_received_leaves_nothing_behind(
    server: EmbeddedServer, start_gateway: Start
) -> None:
    """The clip is still being read then; the edit ends before it has begun."""
    small = start_gateway(server.grpc_url, server.metrics_url, SESSIONS="2")
    cancelled = 'melodyflow_gateway_edits_total{api="socketio",outcome="cancelled"}'

    async def play(name: str) -> None:
        async with connected(small) as client:
            long = request(audio_data=base64_of(wav(60)), session_id=name)
            await client.socket.emit("transform_audio_request", long)
            await client.wait_for("transform_audio_received")

    for name in ("one", "two"):
        asyncio.run(play(name))
    assert until(lambda: small.metric(cancelled) == 2)
    for name in ("one", "two"):
        path = f"/api/juce/poll_status/{name}"
        assert until(lambda path=path: small.get(path).json()["status"] == "failed")
    third = request(session_id="three", steps=1)
    assert small.post("/api/juce/transform_audio", json=third).status_code == 200


def test_who_is_in_the_room_is_told_that_the_edit_was_cancelled(gateway: Running) -> None:
    async def play() -> dict[str, Any]:
        async with connected(gateway) as stays:
            await stays.socket.emit("transform_audio_request", request(session_id="left", steps=1))
            await stays.wait_for("audio_transformed")
            async with connected(gateway) as leaves:
                long = request(audio_data=base64_of(wav(20, 175)), session_id="left")
                await leaves.socket.emit("transform_audio_request", long)
                await leaves.wait_for("progress_update")
            return await stays.wait_for("error")

    error = asyncio.run(play())
    assert "cancelled" in error["message"]
    assert (error["session_id"], error["code"]) == ("left", 503)


def test_without_triton_an_edit_fails_at_its_deadline(start_gateway: Start) -> None:
    lonely = start_gateway("127.0.0.1:1", "127.0.0.1:1")

    async def play() -> tuple[Client, dict[str, Any]]:
        async with connected(lonely) as client:
            await client.socket.emit("transform_audio_request", request(timeout_s=8))
            return client, await client.wait_for("error")

    client, error = asyncio.run(play())
    assert (error["code"], error["retry_after"]) == (503, 5)
    assert client.of("queue_status")[-1]["status"] == "warming"


def test_progress_of_transform_reaches_the_sessions_room(gateway: Running) -> None:
    async def play() -> Client:
        async with connected(gateway) as client:
            await client.socket.emit("transform_audio_request", request(session_id="both", steps=1))
            await client.wait_for("audio_transformed")
            client.got.clear()
            body = {"audio": base64_of(wav(8)), "variation": "celtic", "session_id": "both"}
            await asyncio.to_thread(gateway.post, "/transform", json=body)
            async with asyncio.timeout(PATIENCE):
                while {"progress": 100, "session_id": "both"} not in client.of("progress_update"):
                    await asyncio.sleep(0.05)
            return client

    client = asyncio.run(play())
    assert {name for name, _ in client.got} <= {"progress_update", "queue_status"}


def test_an_edit_of_the_vsts_reaches_the_sessions_room(gateway: Running) -> None:
    async def play() -> tuple[Client, Any]:
        async with connected(gateway) as client:
            await client.socket.emit("transform_audio_request", request(session_id="vst", steps=1))
            await client.wait_for("audio_transformed")
            client.got.clear()
            begun = await asyncio.to_thread(
                gateway.post,
                "/api/juce/transform_audio",
                json=request(session_id="vst", steps=1, variation="chiptune", seed=9),
            )
            await client.wait_for("audio_transformed", "error")
            return client, begun

    client, begun = asyncio.run(play())
    assert begun.status_code == 200
    result = client.of("audio_transformed")[0]
    assert (result["variation"], result["seed"]) == ("chiptune", 9)


def test_midpoint_with_a_euler_variation(gateway: Running) -> None:
    async def play() -> dict[str, Any]:
        async with connected(gateway) as client:
            asked = request(solver="midpoint", seed=5, audio_data=base64_of(wav(0.3)))
            asked |= {"flowstep": None, "steps": None}
            await client.socket.emit("transform_audio_request", asked)
            await client.wait_for("audio_transformed", "error")
            return client.of("audio_transformed")[0]

    assert asyncio.run(play())["audio_data"] == midpoint(gateway)


def test_with_a_token_one_is_let_in(guarded: Running) -> None:
    async def play(transport: str) -> dict[str, Any]:
        mine = {"Authorization": f"Bearer {TOKEN}"}
        async with connected(guarded, headers=mine, transports=[transport]) as client:
            await client.socket.emit("undo_transform_request", {"session_id": "none"})
            return await client.wait_for("error")

    assert asyncio.run(play("websocket"))["code"] == 404
    assert asyncio.run(play("polling"))["code"] == 404


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_without_one_nothing_is_read(
    guarded: Running, headers: dict[str, str], transport: str
) -> None:
    async def play() -> None:
        auth = {"token": TOKEN}  # comes too late: messages would have been read before
        async with connected(guarded, headers=headers, auth=auth, transports=[transport]):
            pass

    # The library may close the connection before it has read why it is refused: RuntimeError.
    with pytest.raises((Refused, RuntimeError)):
        asyncio.run(play())
    for sid, status in (("", 401), ("&sid=", 401), ("&sid=guessed", 400)):
        path = f"/socket.io/?EIO=4&transport=polling{sid}"
        assert guarded.post(path, headers=headers, data=b"40").status_code == status


def test_a_token_has_so_many_sockets(gateway: Running) -> None:
    # Sockets of tests before may still be open, until they miss a ping.
    before = gateway.metric("melodyflow_gateway_sockets")

    async def play() -> None:
        clients = [Client() for _ in range(65)]

        async def connect(client: Client) -> None:
            await client.socket.connect(gateway.url, transports=["websocket"], wait_timeout=30)

        try:
            with pytest.raises(Refused):
                await asyncio.gather(*(connect(client) for client in clients))
        finally:
            await asyncio.gather(*(client.socket.disconnect() for client in clients))

    asyncio.run(play())
    assert until(lambda: gateway.metric("melodyflow_gateway_sockets") <= before)
