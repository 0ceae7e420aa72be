"""A part of a clip, a loop, a loudness, and music without a clip, through the gateway."""

from typing import Any

import numpy as np
import pytest

from melodyflow.audio import loudness

from .conftest import RATE, Running, base64_of, decoded, music, until, wav
from .sse import events

SEED = "X-Melodyflow-Seed"
CLIP = {"audio": base64_of(wav()), "variation": "celtic", "steps": 4, "seed": 5}
MUSIC = {"duration": 1.5, "custom_prompt": "lo-fi piano", "steps": 4}


def stream(gateway: Running, body: dict[str, object]) -> dict[str, Any]:
    """The data of the last event, which is the result."""
    with gateway.post("/transform/stream", json=body, stream=True) as answer:
        assert answer.status_code == 200, answer.text
        *_, (name, data) = events(answer)
    assert name == "result", data
    return data


def transform(gateway: Running, body: dict[str, object]) -> dict[str, Any]:
    answer = gateway.post("/transform", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def lufs(audio: str) -> float:
    samples, rate = decoded(audio)
    level = loudness.integrated(samples, rate)
    assert level is not None
    return level


def test_outside_of_a_region_every_sample_stays(gateway: Running) -> None:
    source, _ = decoded(wav())
    asked = {"start": 0.3, "end": 0.6}
    outside = np.r_[0 : int(0.3 * RATE), int(0.6 * RATE) : source.shape[1]]
    inside = slice(int(0.35 * RATE), int(0.55 * RATE))

    def check(audio: bytes | str) -> None:
        result, rate = decoded(audio)
        assert (result.shape, rate) == (source.shape, RATE)
        assert np.array_equal(result[:, outside], source[:, outside])
        assert np.abs(result[:, inside] - source[:, inside]).max() > 0.01

    check(stream(gateway, {**CLIP, **asked})["audio"])
    check(transform(gateway, {**CLIP, **asked})["audio"])
    form = {"variation": "celtic", "steps": "4", "start": "0.3", "end": "0.6", "loop": "false"}
    check(gateway.post("/transform", data=form, files={"audio": ("a.wav", wav())}).content)


def test_one_end_of_a_region_is_enough(gateway: Running) -> None:
    source, _ = decoded(wav())
    result, _ = decoded(stream(gateway, {**CLIP, "start": 0.5})["audio"])
    half = int(0.5 * RATE)
    assert np.array_equal(result[:, :half], source[:, :half])
    assert not np.array_equal(result[:, half:], source[:, half:])


def test_the_vst_can_ask_for_a_region_and_take_it_back(gateway: Running) -> None:
    body = {"audio_data": base64_of(wav()), "variation": "celtic", "steps": 4, "end": 0.5}
    started = gateway.post("/api/juce/transform_audio", json=body).json()
    poll = f"/api/juce/poll_status/{started['session_id']}"
    assert until(lambda: gateway.get(poll).json()["status"] == "completed")
    result, _ = decoded(gateway.get(poll).json()["audio_data"])
    source, _ = decoded(wav())
    assert np.array_equal(result[:, RATE // 2 :], source[:, RATE // 2 :])
    assert not np.array_equal(result, source)
    undo = {"session_id": started["session_id"]}
    undone = gateway.post("/api/juce/undo_transform", json=undo).json()
    assert undone["audio_data"] == body["audio_data"]


def test_a_loop_is_asked_for_and_stays_as_long(gateway: Running) -> None:
    result = stream(gateway, {**CLIP, "loop": True})
    assert result["info"]["parameters"]["loop"] is True
    assert decoded(result["audio"])[0].shape == music().shape
    plain = stream(gateway, {**CLIP, "loop": False})
    assert plain["audio"] != result["audio"]


def test_who_asks_for_no_loudness_gets_what_the_model_makes(gateway: Running) -> None:
    plain = transform(gateway, CLIP)
    assert plain.keys() == {"audio", "message"}
    assert transform(gateway, {**CLIP, "loudness": "none"}) == plain
    streamed = stream(gateway, CLIP)
    assert streamed["audio"] == plain["audio"]
    assert streamed["info"].get("loudness") is None
    assert abs(lufs(plain["audio"]) - lufs(CLIP["audio"])) > 1  # or what follows shows nothing


@pytest.mark.parametrize("asked", ["source", -25, "-25"])
def test_a_loudness_is_reached_and_reported(gateway: Running, asked: str | int) -> None:
    wanted = lufs(CLIP["audio"]) if asked == "source" else -25
    answer = transform(gateway, {**CLIP, "loudness": asked})
    assert lufs(answer["audio"]) == pytest.approx(wanted, abs=0.2)
    assert answer["loudness"]["result_lufs"] == pytest.approx(wanted, abs=0.2)
    assert answer["loudness"]["limited_by"] is None
    streamed = stream(gateway, {**CLIP, "loudness": asked})
    assert streamed["audio"] == answer["audio"]
    assert streamed["info"]["loudness"] == answer["loudness"]


def test_the_answer_says_where_the_peak_won(gateway: Running) -> None:
    answer = transform(gateway, {**CLIP, "loudness": 0})
    assert answer["loudness"]["limited_by"] == "peak"
    assert np.abs(decoded(answer["audio"])[0]).max() <= 10 ** (-1 / 20)


def test_music_from_a_prompt_alone(gateway: Running) -> None:
    result = stream(gateway, {**MUSIC, "seed": 3})
    audio, rate = decoded(result["audio"])
    assert audio.shape[1] == round(1.5 * rate)
    assert (result["seed"], result["prompt"]) == (3, "lo-fi piano")
    answer = gateway.post("/transform", json={**MUSIC, "seed": 3})
    assert answer.json()["audio"] == result["audio"]
    assert answer.headers[SEED] == "3"
    form = {**MUSIC, "steps": "4", "seed": "3"}
    empty = {"unused": (None, "")}  # a form without a file is still a multipart form
    file = gateway.post("/transform", data=form, files=empty)
    assert base64_of(file.content) == result["audio"]


def test_music_takes_the_prompt_of_a_variation_and_nothing_else_of_it(gateway: Running) -> None:
    result = stream(gateway, {"duration": 0.5, "variation": "celtic"})
    prompt = gateway.get("/variations").json()["variations"]["celtic"]["prompt"]
    assert (result["variation"], result["prompt"]) == ("celtic", prompt)
    assert result["info"]["parameters"]["solver"] == "midpoint"


def test_music_has_another_seed_each_time_also_in_a_session(gateway: Running) -> None:
    asked = {**MUSIC, "session_id": "from-nothing"}
    assert stream(gateway, asked)["seed"] != stream(gateway, asked)["seed"]


BAD = {
    "end before start": (CLIP, {"start": 0.6, "end": 0.3}, "start: 0.6"),
    "short region": (CLIP, {"start": 0.3, "end": 0.35}, "start: 0.3"),
    "start beyond the clip": (CLIP, {"start": 4}, "start: 4"),
    "end beyond the clip": (CLIP, {"end": 4}, "end: 4"),
    "start below 0": (CLIP, {"start": -1}, "start: -1"),
    "start as text": (CLIP, {"start": "soon"}, "start: 'soon'"),
    "start at infinity": (CLIP, {"start": "inf"}, "start: "),
    "a truth value": (CLIP, {"end": True}, "end: expected a number or text, got true"),
    "loop and region": (CLIP, {"loop": True, "start": 0.3}, "loop: "),
    "loop as a number": (CLIP, {"loop": 7}, "loop: 7"),
    "loudness": (CLIP, {"loudness": "loud"}, "loudness: "),
    "loudness true": (CLIP, {"loudness": True}, "loudness: expected a number or text, got true"),
    "loudness as an object": (CLIP, {"loudness": {}}, "loudness: an object"),
    "duration and clip": (CLIP, {"duration": 2}, "duration: is for text-to-music"),
    "neither": (MUSIC, {"duration": None}, "audio: is missing; send a clip, or a duration"),
    "duration 0": (MUSIC, {"duration": 0}, "duration: 0"),
    "too long": (MUSIC, {"duration": 601}, "duration: 601; 0.1 to 200 s"),
    "no prompt": (MUSIC, {"custom_prompt": None}, "prompt: "),
    "music with strength": (MUSIC, {"strength": 0.9}, "strength: "),
    "music with flowstep 0": (MUSIC, {"flowstep": 0}, "flowstep: "),
    "music with a region": (MUSIC, {"end": 1}, "end: "),
    "music with loop": (MUSIC, {"loop": True}, "loop: "),
    "music as loud as its source": (MUSIC, {"loudness": "source"}, "loudness: "),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("path", ["/transform", "/transform/stream"])
def test_what_is_wrong_is_named(gateway: Running, path: str, case: str) -> None:
    body, changes, begins = BAD[case]
    answer = gateway.post(path, json={**body, **changes})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].startswith(begins)


@pytest.mark.parametrize(
    ("body", "changes", "begins"),
    [
        (CLIP, {"loudness": -71}, "loudness: '-71'"),
        (MUSIC, {"duration": 0.05}, "duration: 0.05"),
    ],
)
def test_what_the_server_refuses_is_named_too(
    gateway: Running, body: dict[str, object], changes: dict[str, object], begins: str
) -> None:
    answer = gateway.post("/transform", json={**body, **changes})
    assert (answer.status_code, answer.json()["error"][: len(begins)]) == (400, begins)


def test_a_clip_beyond_a_minute_goes_through(gateway: Running) -> None:
    clip = wav(70)
    body = {"audio": base64_of(clip), "variation": "celtic", "steps": 1, "start": 65, "end": 66}
    result, _ = decoded(stream(gateway, body)["audio"])
    source, _ = decoded(clip)
    assert result.shape == source.shape
    assert np.array_equal(result[:, : 65 * RATE], source[:, : 65 * RATE])
