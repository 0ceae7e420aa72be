"""POST /transform/stream: server-sent events."""

import itertools
import json
from collections.abc import Callable

import pytest

from .conftest import RATE, Open, Running, base64_of, decoded, music, until, wav
from .sse import Event, events

Metrics = Callable[[], dict[str, float]]


def stream(gateway: Running, **changes: object) -> list[Event]:
    body = {"audio": base64_of(wav()), "variation": "celtic", "steps": 8, **changes}
    with gateway.post("/transform/stream", json=body, stream=True) as answer:
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        return list(events(answer))


def test_it_begins_queued_goes_on_with_progress_and_ends_with_the_result(gateway: Running) -> None:
    found = stream(gateway, session_id="streams", seed=11)
    names = [name for name, _ in itertools.groupby(found, key=lambda event: event[0])]
    assert names == ["queued", "progress", "result"]
    assert all(data["session_id"] == "streams" for _, data in found)
    assert found[0][1].keys() == {"session_id", "position", "estimated_seconds"}
    progress = [data for name, data in found if name == "progress"]
    shares = [data["progress"] for data in progress]
    assert shares == sorted(shares)
    assert shares[0] >= 0
    assert 5 < shares[-1] < 100
    assert progress[-1]["step"] == [24, 24]
    assert {data["stage"] for data in progress} >= {"inverting", "generating"}
    result = found[-1][1]
    audio, rate = decoded(result["audio"])
    assert (audio.shape, rate, result["sample_rate"]) == (music().shape, RATE, RATE)
    assert (result["seed"], result["variation"]) == (11, "celtic")
    assert result["prompt"] == result["info"]["parameters"]["prompt"]
    assert result["info"]["ai_generated"] is True
    assert result["info"]["checkpoint"].keys() == {"name", "sha256", "licence"}


def test_it_takes_a_form(gateway: Running) -> None:
    form = {"variation": "celtic", "steps": "4", "strength": "0.9", "new_take": "true"}
    with gateway.post(
        "/transform/stream", data=form, files={"audio": ("a.wav", wav())}, stream=True
    ) as answer:
        name, result = list(events(answer))[-1]
    assert name == "result"
    assert result["info"]["parameters"]["flowstep"] == pytest.approx(0.1)


def test_another_solver_than_the_variations_has_its_own_steps(gateway: Running) -> None:
    found = stream(gateway, solver="midpoint", steps=None, audio=base64_of(wav(0.3)))
    parameters = found[-1][1]["info"]["parameters"]
    assert (parameters["solver"], parameters["steps"]) == ("midpoint", 64)
    assert parameters["regularize_iters"] == 0


def test_variations_of_one_clip_in_one_session_have_one_seed(gateway: Running) -> None:
    from concurrent.futures import ThreadPoolExecutor

    names = ["celtic", "chiptune", "music_box", "synth_bass", "boom_bap", "rock_band"]

    def one(name: str) -> Event:
        return stream(gateway, variation=name, session_id="sweep", steps=4, priority=3)[-1]

    with ThreadPoolExecutor(6) as pool:
        results = [data for _, data in pool.map(one, names)]
    assert [result["variation"] for result in results] == names
    assert len({result["seed"] for result in results}) == 1


def test_what_the_server_refuses_is_an_event(gateway: Running) -> None:
    name, error = stream(gateway, audio=base64_of(wav(0.05)))[-1]
    assert name == "error"
    assert error["code"] == 400
    assert error["error"].startswith("audio: ")


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({"promt": "x"}, "promt: no such field"),
        ({"custom_promt": "x"}, "custom_promt: no such field; did you mean 'custom_prompt'?"),
        ({"priority": 4}, "priority: 4"),
        ({"timeout_s": -1}, "timeout_s: -1"),
        ({"new_take": "perhaps"}, "new_take: 'perhaps'"),
    ],
)
def test_what_the_gateway_refuses_is_no_event(
    gateway: Running, changes: dict[str, object], begins: str
) -> None:
    body = {"audio": base64_of(wav()), "variation": "celtic", **changes}
    answer = gateway.post("/transform/stream", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(begins)


def test_closing_the_connection_cancels_the_edit(gateway: Running, metrics: Metrics) -> None:
    cancelled = 'melodyflow_edits_total{outcome="cancelled"}'
    ours = 'melodyflow_gateway_edits_total{api="stream",outcome="cancelled"}'
    before, ours_before = metrics()[cancelled], gateway.metric(ours)
    body = {"audio": base64_of(wav(20, 160)), "variation": "celtic", "steps": 128}
    with gateway.post("/transform/stream", json=body, stream=True) as answer:
        for name, _ in events(answer):
            if name == "progress":
                break
    gateway.http.close()
    assert until(lambda: metrics()[cancelled] == before + 1)
    assert until(lambda: gateway.metric(ours) == ours_before + 1)


def test_an_error_says_when_to_come_back(open_gateway: Open) -> None:
    body = {"audio": base64_of(wav()), "variation": "celtic"}
    answer = open_gateway().post("/transform/stream", json=body)
    name, data = answer.text.strip().split("\n\n")[-1].split("\n")
    error = json.loads(data.removeprefix("data: "))
    assert (name, error["code"], error["retry_after"]) == ("event: error", 503, 5)


def test_a_deadline_is_an_event(gateway: Running) -> None:
    name, error = stream(gateway, audio=base64_of(wav(20)), steps=128, timeout_s=1)[-1]
    assert (name, error["code"]) == ("error", 504)
