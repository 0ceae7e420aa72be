"""The clients of the old service, each with the requests that it makes."""

import asyncio
import base64
import http.client
import json
import socket
import struct
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodyflow.embedded import EmbeddedServer

from .conftest import (
    PATIENCE,
    Open,
    Running,
    base64_of,
    decoded,
    music,
    until,
    wav,
)
from .test_juce import BEGIN, POLL, UNDO, begin, poll, poll_to_the_end
from .test_socketio import Client, connected

SEED = "X-Melodyflow-Seed"


def is_an_edit_of(audio: bytes | str, clip: bytes) -> bool:
    """Whether it is as long as the clip, at its rate, and another sound."""
    (edited, rate), (original, its_rate) = decoded(audio), decoded(clip)
    assert (edited.shape, rate) == (original.shape, its_rate)
    return not np.allclose(edited, original, atol=1e-3)


# gary4juce, the VST: C++ over HTTP


def juce(gateway: Running, method: str, path: str, fields: dict[str, object]) -> Any:
    """A request as JUCE's URL class writes it: JSON over several lines, a type on every one."""
    body = json.dumps(fields, indent=2).replace("\n", "\r\n").encode() if fields else b""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    value = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, value
    return value


def test_gary4juce(gateway: Running) -> None:
    seeds, results = [], []
    for _ in range(2):
        sent = {
            "audio_data": base64_of(wav()),
            "flowstep": 0.129999995231628,  # a float, written as a double
            "solver": "euler",
            "variation": "accordion_folk",
            "custom_prompt": "808 bass",
        }
        started = juce(gateway, "POST", BEGIN, sent)
        assert started["success"] is True
        session = started["session_id"]
        state = juce(gateway, "GET", f"{POLL}/{session}", {})
        while state["transform_in_progress"]:
            assert state["status"] in ("queued", "warming", "processing")
            time.sleep(0.1)
            state = juce(gateway, "GET", f"{POLL}/{session}", {})
        assert state["status"] == "completed"
        assert is_an_edit_of(state["audio_data"], wav())
        seeds.append(started["seed"])
        results.append(state["audio_data"])
        undone = juce(gateway, "POST", UNDO, {"session_id": session})
        assert (undone["success"], undone["audio_data"]) == (True, base64_of(wav()))
    assert max(seeds) < 100_000
    assert results[0] != results[1]


# gary4live: a Max patch over Socket.IO


def test_gary4live(gateway: Running) -> None:
    """Transform, undo, transform: another take, though it has no seed to send."""

    async def heard(client: Client, event: str, sent: str, data: object) -> dict[str, Any]:
        client.got.clear()
        await client.socket.emit(sent, data)
        return await client.wait_for(event, "error")

    async def play() -> list[dict[str, Any]]:
        async with connected(gateway, transports=["websocket"]) as client:
            asked = {
                "audio_data": base64_of(wav()),
                "variation": "celtic",
                "session_id": None,
                "flowstep": 0.13,
            }
            first = await heard(client, "audio_transformed", "transform_audio_request", asked)
            session = {"session_id": first["session_id"]}
            undone = await heard(client, "transform_undone", "undo_transform_request", session)
            again = asked | session | {"audio_data": undone["audio_data"]}
            second = await heard(client, "audio_transformed", "transform_audio_request", again)
            midpoint = again | {"solver": "midpoint", "audio_data": second["audio_data"]}
            third = await heard(client, "audio_transformed", "transform_audio_request", midpoint)
            return [first, undone, second, third]

    first, undone, second, third = asyncio.run(play())
    assert undone["audio_data"] == base64_of(wav())
    assert {data["session_id"] for data in (undone, second, third)} == {first["session_id"]}
    assert first["audio_data"] != second["audio_data"]
    for data in (first, second, third):
        assert is_an_edit_of(data["audio_data"], wav())


def test_gary4live_asks_for_progress_and_hears_no_error(gateway: Running) -> None:
    """It does so five seconds after what it heard last, also when the edit is long done."""
    asking = {"session_id": "asks", "last_progress": 0}

    async def play() -> tuple[Client, list[tuple[str, dict[str, Any]]]]:
        async with connected(gateway) as worker, connected(gateway) as client:
            long = {
                "audio_data": base64_of(wav(20)),
                "variation": "celtic",
                "session_id": "asks",
                "steps": 128,
            }
            await worker.socket.emit("transform_audio_request", long)
            await worker.wait_for("progress_update")
            await client.socket.emit("request_progress_status", asking)
            await client.wait_for("progress_update", "queue_status", "error")
            running = list(client.got)
            client.got.clear()
            short = long | {"audio_data": base64_of(wav()), "steps": 1}
            await worker.socket.emit("transform_audio_request", short)
            await worker.wait_for("audio_transformed")
            await client.socket.emit("request_progress_status", asking)
            await client.socket.emit("request_progress_status", {"session_id": "nobody"})
            await client.socket.emit("undo_transform_request", {"session_id": "nobody"})
            await client.wait_for("error")
            return client, running

    client, running = asyncio.run(play())
    [(event, data)] = running
    assert (event, data["session_id"]) == ("progress_update", "asks")
    assert [name for name, _ in client.got] == ["error"]  # of the undo, sent last
    assert client.got[0][1]["session_id"] == "nobody"


# g4lwebsockets.py and g4l_localhost.py: back ends that share a folder with the service


def written(folder: Path, clip: bytes, session: str) -> str:
    """The clip in the shared folder, as both back ends name it."""
    path = folder / f"input_{session}_{uuid.uuid4().hex[:8]}.wav"
    path.write_bytes(clip)
    return str(path)


def test_g4lwebsockets(server: EmbeddedServer, open_gateway: Open, tmp_path: Path) -> None:
    opened = open_gateway(
        server=server.grpc_url, metrics=server.metrics_url, shared_folder=str(tmp_path)
    )
    takes = []
    for more in ({}, {"flowstep": 0.13, "solver": "euler", "custom_prompt": "808 bass"}):
        sent = {
            "audio_file_path": written(tmp_path, wav(), "room"),
            "variation": "accordion_folk",
            "session_id": "room",
            **more,
        }
        answer = opened.post("/transform", json=sent)
        assert answer.status_code == 200, answer.text
        assert "audio_file_path" not in answer.json()
        takes.append(answer.json()["audio"])
        assert is_an_edit_of(takes[-1], wav())
    assert takes[0] != takes[1]


def test_g4l_localhost(server: EmbeddedServer, open_gateway: Open, tmp_path: Path) -> None:
    opened = open_gateway(
        server=server.grpc_url,
        metrics=server.metrics_url,
        shared_folder=str(tmp_path),
        shared_answer="file",
    )
    sent = {
        "variation": "celtic",
        "session_id": str(uuid.uuid4()),
        "audio_file_path": written(tmp_path, wav(), "local"),
        "flowstep": None,
        "solver": None,
    }
    answer = opened.post("/transform", json=sent)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    assert is_an_edit_of(answer.content, wav())
    assert int(answer.headers[SEED]) < 100_000
    # Audio in the request is answered as ever.
    plain = {"audio": base64_of(wav()), "variation": "celtic", "audio_file_path": "", "steps": 2}
    assert opened.post("/transform", json=plain).json().keys() == {"audio", "message"}


# gary4local's service took forms with names of its own


def test_old_spellings_in_a_form(gateway: Running) -> None:
    form = {
        "transformation_type": "celtic",
        "prompt": "tin drum, dry",
        "solver": "MIDPOINT",
        "audio_format": "wav_float",
        "audio_file_path": "",
        "steps": "2",
    }
    answer = gateway.post("/transform", data=form, files={"audio": ("a.wav", wav(), "audio/wav")})
    assert answer.status_code == 200, answer.text
    assert b"tin drum, dry" in answer.content
    assert struct.unpack_from("<H", answer.content, 20) == (3,)  # float samples
    auto = gateway.post(
        "/transform",
        json={
            "audio": base64_of(wav()),
            "variation": "celtic",
            "audio_format": "auto",
            "steps": 1,
        },
    )
    assert base64.b64decode(auto.json()["audio"])[20:36] == wav()[20:36]


# Agents: by their notes they send a session instead of audio, and look after it now and then


def test_a_session_without_audio_goes_on_from_its_last_result(gateway: Running) -> None:
    first = begin(gateway, session_id="chain", steps=2)
    assert first["session_id"] == "chain"
    result = poll_to_the_end(gateway, "chain")[-1]["audio_data"]

    def next_in_chain(steps: int = 2, **changes: object) -> str:
        begin(gateway, session_id="chain", audio_data=None, steps=steps, **changes)
        done = poll_to_the_end(gateway, "chain")[-1]
        assert done["status"] == "completed", done
        audio: str = done["audio_data"]
        return audio

    second = next_in_chain(variation="chiptune")
    undone = gateway.post(UNDO, json={"session_id": "chain"}).json()
    assert undone["audio_data"] == result  # the second began with what the first made
    third = next_in_chain(seed=5)
    assert gateway.post(UNDO, json={"session_id": "chain"}).json()["audio_data"] == result
    assert len({result, second, third}) == 3

    plain = begin(gateway, audio_data=result, steps=2, seed=5)
    assert poll_to_the_end(gateway, plain["session_id"])[-1]["audio_data"] == third


@pytest.mark.parametrize(
    ("sent", "status", "begins"),
    [
        ({"session_id": "nothing-yet"}, 404, "session_id: 'nothing-yet' has no audio to edit"),
        ({}, 400, "audio_data: is missing"),
        ({"session_id": " "}, 400, "audio_data: is missing"),
    ],
)
def test_a_session_without_any_audio_is_named(
    gateway: Running, sent: dict[str, object], status: int, begins: str
) -> None:
    answer = gateway.post(BEGIN, json={"variation": "celtic", **sent})
    assert (answer.status_code, answer.json()["error"].startswith(begins)) == (status, True)

    async def play() -> dict[str, Any]:
        async with connected(gateway) as client:
            await client.socket.emit("transform_audio_request", {"variation": "celtic", **sent})
            return await client.wait_for("error")

    error = asyncio.run(play())
    assert (error["code"], error["message"].startswith(begins)) == (status, True)


def test_an_event_without_audio_goes_on_too(gateway: Running) -> None:
    async def play() -> Client:
        async with connected(gateway) as client:
            asked = {"variation": "celtic", "session_id": "events", "steps": 2}
            first = asked | {"audio_data": base64_of(wav())}
            await client.socket.emit("transform_audio_request", first)
            await client.wait_for("audio_transformed", "error")
            client.got.clear()
            await client.socket.emit("transform_audio_request", asked | {"audio_data": ""})
            await client.wait_for("audio_transformed", "error")
            return client

    client = asyncio.run(play())
    assert client.of("error") == []
    assert decoded(client.of("audio_transformed")[0]["audio_data"])[0].shape == music().shape


def test_a_poll_may_consume_the_result(gateway: Running) -> None:
    session = begin(gateway, steps=2)["session_id"]
    assert until(lambda: not poll(gateway, session)["transform_in_progress"])
    gateway.http.head(f"{gateway.url}{POLL}/{session}?consume=1", timeout=PATIENCE)
    state = poll(gateway, f"{session}?consume=1")
    assert is_an_edit_of(state["audio_data"], wav())
    for query in ("", "?consume=1"):
        left = poll(gateway, session + query)
        assert (left["status"], "audio_data" in left) == ("completed", False)
    assert gateway.post(UNDO, json={"session_id": session}).json()["audio_data"] == base64_of(wav())
    assert gateway.get(f"{POLL}/{session}?consume=perhaps").status_code == 400


def test_a_result_that_did_not_arrive_is_kept(gateway: Running) -> None:
    asked = {"sample_rate": 192000, "format": "wav32f", "audio_data": base64_of(wav(10))}
    session = begin(gateway, steps=1, **asked)["session_id"]
    assert poll_to_the_end(gateway, session)[-1]["status"] == "completed"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.connect(("127.0.0.1", gateway.port))
        client.sendall(
            f"GET {POLL}/{session}?consume=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        assert client.recv(1024).startswith(b"HTTP/1.1 200")
    time.sleep(0.3)
    assert "audio_data" in poll(gateway, session)
