"""Previews by reference, over server-sent events and in rooms."""

import asyncio
import json

import pytest
import requests

from melodyflow.audio.loudness import integrated

from .conftest import TOKEN, Open, Running, base64_of, decoded, music, until, wav
from .sse import Event, events
from .test_socketio import connected, request

BUDGET = "melodyflow_gateway_budget_bytes"


def stream(gateway: Running, **changes: object) -> tuple[list[Event], list[requests.Response]]:
    """The events of an edit, and what each preview's address answered when its event came."""
    body = {"audio": base64_of(wav()), "variation": "celtic", "steps": 64, "seed": 3, **changes}
    found, files = [], []
    with gateway.post("/transform/stream", json=body, stream=True) as answer:
        assert answer.status_code == 200, answer.text
        for name, data in events(answer):
            found.append((name, data))
            if name == "preview":
                fetched = gateway.get(data["url"])
                assert fetched.status_code == 200  # it, or a newer one
                assert fetched.headers["Content-Type"] == "audio/flac"
                files.append(fetched)
    return found, files


def test_an_edit_is_heard_while_it_forms(gateway: Running) -> None:
    plain, none = stream(gateway)
    assert none == []
    found, files = stream(gateway, previews=4)
    told = [data for name, data in found if name == "preview"]
    assert 1 <= len(told) <= 4
    assert all(data.keys() == {"session_id", "url", "step"} for data in told)
    steps = [data["step"][0] for data in told]
    assert steps == sorted(set(steps))
    assert files
    for answer in files:
        assert answer.content.startswith(b"fLaC")
        samples, rate = decoded(answer.content)
        assert samples.shape == music().shape
        info = json.loads(answer.headers["X-Melodyflow-Info"])
        assert info["clip_lufs"] == found[-1][1]["info"]["clip_lufs"]
        assert info["result_lufs"] == pytest.approx(integrated(samples, rate), abs=0.01)
    assert found[-1][1]["audio"] == plain[-1][1]["audio"]
    shares = [data["progress"] for name, data in found if name == "progress"]
    assert shares == sorted(shares)


def test_only_the_newest_is_kept_and_its_bytes_are_counted(gateway: Running) -> None:
    found, _ = stream(gateway, previews=8)
    *older, newest = [data["url"] for name, data in found if name == "preview"]
    assert gateway.get(newest).status_code == 200
    for url in older:  # leads on to the newest
        answer = gateway.get(url, allow_redirects=False)
        assert (answer.status_code, answer.content) == (307, b"")
        assert gateway.get(url).url.endswith(newest)
    name = newest.rpartition("/")[0]
    for step in (-1, 10_000):  # none was, or none yet
        assert gateway.get(f"{name}/{step}").status_code == 404
    assert until(lambda: gateway.metric(BUDGET) >= len(gateway.get(newest).content))


def test_a_preview_needs_a_token_where_edits_do(guarded: Running) -> None:
    body = {"audio": base64_of(wav()), "variation": "celtic", "steps": 64, "previews": 2}
    known = {"Authorization": f"Bearer {TOKEN}"}
    with guarded.post("/transform/stream", json=body, headers=known, stream=True) as answer:
        urls = [data["url"] for name, data in events(answer) if name == "preview"]
    assert guarded.get(urls[-1], headers=known).status_code == 200
    assert guarded.get(urls[-1]).status_code == 401


@pytest.mark.parametrize("path", ["/preview/unknown/3", "/preview/a/-1"])
def test_what_is_not_there_is_a_404(gateway: Running, path: str) -> None:
    answer = gateway.get(path)
    assert answer.status_code == 404
    assert "only an edit's newest one is kept" in answer.json()["error"]


def test_a_step_that_is_no_number_is_named(open_gateway: Open) -> None:
    answer = open_gateway().get("/preview/unknown/first")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("step: ")


def test_a_room_hears_of_them_and_a_poll_does_not(gateway: Running) -> None:
    async def play() -> dict[str, object]:
        async with connected(gateway) as client:
            asked = request(session_id="previews", steps=64, previews=3)
            await client.socket.emit("transform_audio_request", asked)
            told = await client.wait_for("preview", "audio_transformed", "error")
            poll = await asyncio.to_thread(gateway.get, "/api/juce/poll_status/previews")
            assert "preview" not in poll.text
            await client.wait_for("audio_transformed", "error")
            assert client.of("error") == []
            return told

    told = asyncio.run(play())
    assert told.keys() == {"session_id", "url", "step"}
    assert told["session_id"] == "previews"


def test_transform_needs_a_room_for_them(gateway: Running) -> None:
    body = {"audio": base64_of(wav()), "variation": "celtic", "steps": 2, "previews": 2}
    answer = gateway.post("/transform", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("previews: 2; without a session_id")
    answer = gateway.post("/transform", json={**body, "session_id": "previews-room"})
    assert answer.status_code == 200
