"""The VST: begin, poll until it is done, take it back."""

import time
from typing import Any

import numpy as np
import pytest

from .conftest import (
    OTHER_TOKEN,
    PATIENCE,
    TOKEN,
    Running,
    base64_of,
    decoded,
    music,
    until,
    wav,
)
from .sse import midpoint

BEGIN, POLL, UNDO = (
    f"/api/juce/{name}" for name in ("transform_audio", "poll_status", "undo_transform")
)


def begin(gateway: Running, **changes: object) -> dict[str, Any]:
    body = {"audio_data": base64_of(wav()), "variation": "celtic", "flowstep": 0.130, **changes}
    answer = gateway.post(BEGIN, json=body)
    assert answer.status_code == 200, answer.text
    started: dict[str, Any] = answer.json()
    return started


def poll(gateway: Running, session: str, **options: object) -> dict[str, Any]:
    answer = gateway.get(f"{POLL}/{session}", **options)
    assert answer.status_code == 200, answer.text
    state: dict[str, Any] = answer.json()
    return state


def poll_to_the_end(gateway: Running, session: str) -> list[dict[str, Any]]:
    """All answers, as the VST asks for them."""
    states = [poll(gateway, session)]
    deadline = time.monotonic() + PATIENCE
    while states[-1]["transform_in_progress"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        states.append(poll(gateway, session))
    return states


def test_start_poll_undo(gateway: Running) -> None:
    original = wav(1.0, 247)
    started = begin(gateway, audio_data=base64_of(original), seed="", steps=128)
    assert started.keys() == {"success", "session_id", "seed", "message"}
    assert started["success"] is True
    states = poll_to_the_end(gateway, started["session_id"])
    for state in states:
        # Without one of the two the VST would take 15 s for a stall.
        assert state["queue_status"].keys() >= {"status", "message", "position"}
        assert state["success"] is True
        assert 0 <= state["progress"] <= 100
    shares = [state["progress"] for state in states]
    assert shares == sorted(shares)
    assert {state["status"] for state in states} <= {"queued", "processing", "completed"}
    done = states[-1]
    assert (done["status"], done["progress"], done["seed"]) == ("completed", 100, started["seed"])
    assert "error" not in done
    audio, _ = decoded(done["audio_data"])
    assert audio.shape == music().shape
    assert not np.allclose(audio, music(1.0, 247), atol=1e-3)
    assert poll(gateway, started["session_id"]) == done  # as often as it is asked for

    undone = gateway.post(UNDO, json={"session_id": started["session_id"]}).json()
    assert undone.keys() == {"success", "audio_data", "message"}
    assert undone["audio_data"] == base64_of(original)


def test_a_session_of_ones_own_keeps_its_name_and_the_clips_seed(gateway: Running) -> None:
    first = begin(gateway, session_id="vst-1", steps=4)
    assert first["session_id"] == "vst-1"
    poll_to_the_end(gateway, "vst-1")
    kept = begin(gateway, session_id="vst-1", variation="chiptune", new_take=False)
    assert kept["seed"] == first["seed"]


def test_a_new_edit_takes_the_place_of_one_that_runs(gateway: Running) -> None:
    cancelled = 'melodyflow_gateway_edits_total{api="juce",outcome="cancelled"}'
    before = gateway.metric(cancelled)
    begin(gateway, session_id="vst-2", audio_data=base64_of(wav(20, 130)), steps=128)
    second = begin(gateway, session_id="vst-2", steps=4, seed=77)
    done = poll_to_the_end(gateway, "vst-2")[-1]
    assert (done["status"], done["seed"], second["seed"]) == ("completed", 77, 77)
    assert until(lambda: gateway.metric(cancelled) == before + 1)


def test_midpoint_with_a_euler_variation(gateway: Running) -> None:
    asked = {"solver": "midpoint", "seed": 5, "flowstep": None, "audio_data": base64_of(wav(0.3))}
    started = begin(gateway, **asked)
    done = poll_to_the_end(gateway, started["session_id"])[-1]
    assert done["status"] == "completed", done
    assert done["audio_data"] == midpoint(gateway)


def test_undo_takes_back_the_last_edit_that_was_done(gateway: Running) -> None:
    def undone() -> Any:
        return gateway.post(UNDO, json={"session_id": "undoes"})

    begin(gateway, session_id="undoes", audio_data=base64_of(wav(20, 350)), steps=128)
    assert undone().status_code == 404
    begin(gateway, session_id="undoes", audio_data=base64_of(wav(1, 360)), steps=2)
    poll_to_the_end(gateway, "undoes")
    begin(gateway, session_id="undoes", audio_data=base64_of(wav(20, 370)), steps=128)
    assert undone().json()["audio_data"] == base64_of(wav(1, 360))
    begin(gateway, session_id="undoes", audio_data=base64_of(wav(0.05)))
    assert poll_to_the_end(gateway, "undoes")[-1]["status"] == "failed"
    assert undone().json()["audio_data"] == base64_of(wav(1, 360))


def test_an_edit_that_fails_says_why(gateway: Running) -> None:
    started = begin(gateway, audio_data=base64_of(wav(0.05)))
    done = poll_to_the_end(gateway, started["session_id"])[-1]
    assert done["status"] == "failed"
    assert done["error"].startswith("audio: ")
    assert "audio_data" not in done


def test_unknown_sessions_are_404(gateway: Running) -> None:
    answer = gateway.get(f"{POLL}/nobody")
    assert answer.status_code == 404
    assert answer.json()["status"] == "unknown"
    assert answer.json()["success"] is False
    answer = gateway.post(UNDO, json={"session_id": "nobody"})
    assert (answer.status_code, answer.json()["success"]) == (404, False)


@pytest.mark.parametrize(
    ("changes", "status", "begins"),
    [
        ({"audio_data": None}, 400, "audio_data: is missing"),
        ({"audio_data": "x"}, 400, "audio_data: 'x'"),
        ({"variation": "kazoo"}, 404, "variation: "),
        ({"flowstep": "1.5"}, 400, "flowstep: '1.5'"),
    ],
)
def test_what_is_wrong_is_named(
    gateway: Running, changes: dict[str, object], status: int, begins: str
) -> None:
    body = {"audio_data": base64_of(wav()), "variation": "celtic", **changes}
    answer = gateway.post(BEGIN, json=body)
    assert (answer.status_code, answer.json()["success"]) == (status, False)
    assert answer.json()["error"].startswith(begins)


def test_a_session_is_its_tokens(guarded: Running) -> None:
    mine = {"Authorization": f"Bearer {TOKEN}"}
    other = {"Authorization": f"Bearer {OTHER_TOKEN}"}
    body = {"audio_data": base64_of(wav()), "variation": "celtic", "steps": 4, "session_id": "one"}
    assert guarded.post(BEGIN, json=body, headers=mine).status_code == 200
    assert guarded.get(f"{POLL}/one", headers=mine).status_code == 200
    assert guarded.get(f"{POLL}/one", headers=other).status_code == 404
    assert guarded.post(UNDO, json={"session_id": "one"}, headers=other).status_code == 404
    assert guarded.get(f"{POLL}/one").status_code == 401
    assert until(lambda: not poll(guarded, "one", headers=mine)["transform_in_progress"])
    # The same name under another token is another session.
    theirs = {**body, "seed": 5, "audio_data": base64_of(wav(pitch=500))}
    assert guarded.post(BEGIN, json=theirs, headers=other).status_code == 200
    undone = guarded.post(UNDO, json={"session_id": "one"}, headers=mine).json()
    assert undone["audio_data"] == body["audio_data"]


def test_generated_session_ids_cannot_be_guessed(gateway: Running) -> None:
    names = {begin(gateway, steps=1)["session_id"] for _ in range(3)}
    assert len(names) == 3
    assert all(len(name) >= 32 for name in names)
