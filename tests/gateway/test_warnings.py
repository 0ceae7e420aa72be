"""What was guessed or repaired in a clip is told with every result, and with nothing else."""

import asyncio
import json

import pytest

from .conftest import Open, Running, base64_of, until, wav
from .sse import events
from .test_socketio import connected

TOLD = ["100 bytes before the file's header were skipped"]
HEADER = "X-Melodyflow-Warnings"
FIELDS = {"variation": "celtic", "steps": 1}
CLIPS = [(bytes(100) + wav(0.3), TOLD), (wav(0.3), [])]
clips = pytest.mark.parametrize(("clip", "told"), CLIPS, ids=["repaired", "whole"])


@clips
def test_json_and_forms(gateway: Running, clip: bytes, told: list[str]) -> None:
    answer = gateway.post("/transform", json={"audio": base64_of(clip), **FIELDS})
    assert answer.json().get("warnings", []) == told
    assert HEADER not in answer.headers
    assert ("warnings" in answer.json()) == bool(told)
    form = gateway.post("/transform", data=FIELDS, files={"audio": clip})
    assert form.content.startswith(b"RIFF")
    assert json.loads(form.headers.get(HEADER, "[]")) == told


@clips
def test_events(gateway: Running, clip: bytes, told: list[str]) -> None:
    body = {"audio": base64_of(clip), **FIELDS}
    with gateway.post("/transform/stream", json=body, stream=True) as answer:
        *others, (name, result) = events(answer)
    assert (name, result["warnings"]) == ("result", told)
    assert not any("warnings" in data for _, data in others)


@clips
def test_polls(gateway: Running, clip: bytes, told: list[str]) -> None:
    body = {"audio_data": base64_of(clip), **FIELDS}
    session = gateway.post("/api/juce/transform_audio", json=body).json()["session_id"]

    def done() -> bool:
        state = gateway.get(f"/api/juce/poll_status/{session}").json()
        if state["status"] != "completed":
            assert "warnings" not in state
            return False
        assert state.get("warnings", []) == told
        assert ("warnings" in state) == bool(told)
        return True

    assert until(done)


@clips
def test_socket_io(gateway: Running, clip: bytes, told: list[str]) -> None:
    async def play() -> dict[str, object]:
        async with connected(gateway) as client:
            body = {"audio_data": base64_of(clip), **FIELDS}
            await client.socket.emit("transform_audio_request", body)
            return await client.wait_for("audio_transformed", "error")

    result = asyncio.run(play())
    assert result.get("warnings", []) == told
    assert ("warnings" in result) == bool(told)


def test_music_from_text_has_none(gateway: Running) -> None:
    answer = gateway.post("/transform", json={"duration": 0.3, "custom_prompt": "harp", "steps": 2})
    assert answer.json().keys() == {"audio", "message"}


def test_pages_of_allowed_sites_may_read_them(open_gateway: Open) -> None:
    site = "https://studio.example"
    headers = {"Origin": site}
    answer = open_gateway(origins=(site,)).post(
        "/decode", files={"audio": CLIPS[0][0]}, headers=headers
    )
    assert json.loads(answer.headers[HEADER]) == TOLD
    assert HEADER in answer.headers["Access-Control-Expose-Headers"]
