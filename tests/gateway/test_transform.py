"""POST /transform as the old service's clients use it: curl scripts, JSON, forms."""

import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from melodyflow_client import load_presets

from .conftest import PATIENCE, RATE, ROOT, Running, base64_of, decoded, music, until, wav
from .sse import midpoint

Metrics = Callable[[], dict[str, float]]
SEED = "X-Melodyflow-Seed"
PLACEHOLDER = "base64_encoded_audio_data"

# The README of the old service, as it stands there.
STRINGS = """curl -X POST http://localhost:8002/transform \\
  -H "Content-Type: application/json" \\
  -d '{
    "audio": "base64_encoded_audio_data",
    "variation": "strings_quartet",
    "session_id": "test_session"
  }'"""
CUSTOM = """curl -X POST http://localhost:8002/transform \\
  -H "Content-Type: application/json" \\
  -d '{
    "audio": "base64_encoded_audio_data", 
    "variation": "custom",
    "custom_prompt": "808 bass",
    "session_id": "test_session"
  }'"""
HEALTH = "curl http://localhost:8002/health"


def curl(command: str, gateway: Running, folder: Path, audio: str = PLACEHOLDER) -> dict[str, str]:
    """What a command of the README prints, with another port, and its body from a file."""
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    command = command.replace("localhost:8002", f"localhost:{gateway.port}")
    start, quote, body = command.partition("'")
    if quote:
        (folder / "body.json").write_text(body.rstrip("'").replace(PLACEHOLDER, audio))
        command = f"{start}@body.json"
    done = subprocess.run(
        ["bash", "-c", f"{command} -sS --noproxy '*'"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(("command", "prompt"), [(STRINGS, None), (CUSTOM, "808 bass")])
def test_the_old_readmes_commands_give_a_file_as_long_as_the_riff(
    gateway: Running, tmp_path: Path, command: str, prompt: str | None
) -> None:
    riff = (ROOT / "examples/riff.wav").read_bytes()
    answer = curl(command, gateway, tmp_path, base64_of(riff))
    assert answer.keys() == {"audio", "message"}
    assert answer["message"] == "Audio processed successfully"
    (original, rate), (result, its_rate) = decoded(riff), decoded(answer["audio"])
    assert (result.shape[1], its_rate) == (original.shape[1], rate)
    assert np.abs(result).max() > 0.01
    assert (prompt or load_presets()["strings_quartet"].prompt).encode() in base64_file(answer)


def base64_file(answer: dict[str, str]) -> bytes:
    import base64

    return base64.b64decode(answer["audio"])


def test_the_old_readmes_placeholder_is_named(gateway: Running, tmp_path: Path) -> None:
    error = curl(STRINGS, gateway, tmp_path)["error"]
    assert error.startswith("audio: 'base64_encoded_audio_data'; ")
    assert "placeholder" in error


def test_the_old_readmes_health(gateway: Running, tmp_path: Path) -> None:
    answer = curl(HEALTH, gateway, tmp_path)
    assert answer["status"] == "healthy"


def edit(gateway: Running, **changes: object) -> object:
    body = {"audio": base64_of(wav()), "variation": "celtic", "steps": 4, **changes}
    return gateway.post("/transform", json={k: v for k, v in body.items() if v is not ...})


def test_a_prompt_of_ones_own_replaces_a_variations(gateway: Running) -> None:
    answer = edit(gateway, variation="accordion_folk", custom_prompt="tin drum, dry")
    assert b"tin drum, dry" in base64_file(answer.json())


def test_a_form_is_answered_with_the_file(gateway: Running) -> None:
    form = {"variation": "celtic", "steps": "4", "flowstep": "0.130", "seed": "", "solver": "euler"}
    answer = gateway.post("/transform", data=form, files={"audio": ("a.wav", wav(), "audio/wav")})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "audio/wav"
    assert 0 <= int(answer.headers[SEED]) < 100_000
    result, rate = decoded(answer.content)
    assert (result.shape, rate) == (music().shape, RATE)
    flac = gateway.post(
        "/transform", data={**form, "format": "flac"}, files={"audio": ("a.wav", wav())}
    )
    assert flac.headers["Content-Type"] == "audio/flac"
    assert flac.content.startswith(b"fLaC")


def test_the_same_seed_gives_the_same_bytes(gateway: Running) -> None:
    first = edit(gateway, seed=-1)
    again = edit(gateway, seed=int(first.headers[SEED]))
    assert again.headers[SEED] == first.headers[SEED]
    assert again.json()["audio"] == first.json()["audio"]
    assert edit(gateway, seed="7").headers[SEED] == "7"


@pytest.mark.parametrize("blank", [..., None, "", -1, "-1", " "])
def test_without_a_seed_and_a_session_it_is_random(gateway: Running, blank: object) -> None:
    seeds = {edit(gateway, seed=blank).headers[SEED] for _ in range(2)}
    assert len(seeds) == 2


def test_a_session_keeps_the_seed_of_each_clip(gateway: Running) -> None:
    def seed_of(pitch: float, **changes: object) -> str:
        changes = {"session_id": "keeps", "new_take": False, **changes}
        return edit(gateway, audio=base64_of(wav(pitch=pitch)), **changes).headers[SEED]

    first, other = seed_of(220), seed_of(330)
    assert first != other
    assert (seed_of(220, variation="chiptune"), seed_of(330)) == (first, other)
    assert seed_of(220, session_id="another") != first
    assert seed_of(220, seed=5) == "5"
    assert seed_of(220) == "5"
    take = seed_of(220, new_take=True)
    assert take != "5"
    assert seed_of(220, seed="") == take


@pytest.mark.parametrize("blank", [..., None, "", -1, "-7", " "])
def test_whoever_does_not_ask_for_it_gets_another_take(gateway: Running, blank: object) -> None:
    seeds = [edit(gateway, seed=blank, session_id="takes").headers[SEED] for _ in range(2)]
    assert seeds[0] != seeds[1]
    assert all(int(seed) < 100_000 for seed in seeds)
    kept = edit(gateway, session_id="takes", new_take=False)
    assert kept.headers[SEED] == seeds[1]


def test_midpoint_with_a_euler_variation_has_steps_of_its_own(gateway: Running) -> None:
    asked = {"solver": "midpoint", "seed": 5, "audio": base64_of(wav(0.3)), "steps": None}
    answer = edit(gateway, **asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["audio"] == midpoint(gateway)


def test_other_clients_fields_are_ignored_and_null_is_left_out(gateway: Running) -> None:
    answer = edit(gateway, debug=False, quality="high", audio_file_path=None, flowstep=None)
    assert answer.status_code == 200, answer.text


BAD = {
    "no audio": ({"audio": ...}, 400, "audio: is missing"),
    "blank audio": ({"audio": ""}, 400, "audio: is missing"),
    "not base64": ({"audio": "%%%"}, 400, "audio: '%%%'"),
    "not audio": ({"audio": base64_of(b"no sound at all")}, 400, "audio: "),
    "cut audio": ({"audio": base64_of(wav()[:40])}, 400, "audio: "),
    "too short": ({"audio": base64_of(wav(0.05))}, 400, "audio: "),
    "unknown variation": ({"variation": "kazoo"}, 404, "variation: "),
    "no variation": ({"variation": ...}, 400, "prompt: "),
    "custom without a prompt": ({"variation": "custom"}, 400, "prompt: "),
    "long prompt": ({"custom_prompt": "x" * 1001}, 400, "custom_prompt: "),
    "flowstep 1": ({"flowstep": 1}, 400, "flowstep: 1"),
    "flowstep text": ({"flowstep": "much"}, 400, "flowstep: 'much'"),
    "flowstep true": ({"flowstep": True}, 400, "flowstep: expected a number or text, got true"),
    "flowstep and strength": ({"flowstep": 0.1, "strength": 0.9}, 400, "strength: "),
    "solver": ({"solver": "heun"}, 400, "solver: 'heun'"),
    "steps": ({"steps": 129}, 400, "steps: 129"),
    "odd steps with midpoint": ({"solver": "midpoint", "steps": 5}, 400, "steps: 5"),
    "seed": ({"seed": 2**31}, 400, "seed: 2147483648"),
    "seed and new take": ({"seed": 3, "new_take": True}, 400, "new_take: "),
    "session id": ({"session_id": "../../etc"}, 400, "session_id: '../../etc'"),
    "a path": ({"audio_file_path": "/etc/passwd"}, 400, "audio_file_path: "),
    "late": ({"timeout_s": 0.01}, 504, "timeout"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(gateway: Running, case: str) -> None:
    changes, status, begins = BAD[case]
    answer = edit(gateway, **changes)
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].startswith(begins)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[1]", 400), (b"[" * 100_000, 400), (b'{"audio": "\\ud800"}', 400)],
)
def test_a_body_that_is_not_an_object_is_refused(
    gateway: Running, body: bytes, status: int
) -> None:
    answer = gateway.post("/transform", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_a_broken_form_and_another_kind_of_body_are_refused(gateway: Running) -> None:
    def status(kind: str, body: bytes) -> int:
        return gateway.post("/transform", data=body, headers={"Content-Type": kind}).status_code

    assert status("multipart/form-data", b"x") == 400
    assert status("multipart/form-data; boundary=b", b"--b\r\nx") == 400
    assert status("application/x-www-form-urlencoded", b"audio=x") == 415
    no_file = gateway.post("/transform", files={"other": b"x"}, data={"variation": "celtic"})
    assert no_file.status_code == 400


def test_a_client_that_goes_away_cancels_its_edit(gateway: Running, metrics: Metrics) -> None:
    cancelled = 'melodyflow_edits_total{outcome="cancelled"}'
    ours = 'melodyflow_gateway_edits_total{api="transform",outcome="cancelled"}'
    before, ours_before = metrics()[cancelled], gateway.metric(ours)
    body = json.dumps(
        {"audio": base64_of(wav(20, 150)), "variation": "celtic", "steps": 128, "priority": 1}
    ).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.sendall(
            b"POST /transform HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        assert until(lambda: metrics()["melodyflow_edits_in_flight"] >= 1)
    assert until(lambda: metrics()[cancelled] == before + 1)
    assert until(lambda: gateway.metric(ours) == ours_before + 1)


def test_twenty_sessions_at_once_are_not_mixed_up(gateway: Running) -> None:
    def one(number: int) -> tuple[int, bytes, tuple[int, ...], str]:
        clip = wav(0.4 + 0.02 * number, 200 + 10 * number)
        answer = gateway.post(
            "/transform",
            json={
                "audio": base64_of(clip),
                "variation": "custom",
                "custom_prompt": f"band number {number} of twenty",
                "steps": 6,
                "seed": 1000 + number,
                "session_id": f"session-{number}",
            },
        )
        assert answer.status_code == 200, answer.text
        file = base64_file(answer.json())
        return number, file, decoded(file)[0].shape, answer.headers[SEED]

    with ThreadPoolExecutor(20) as pool:
        for number, file, shape, seed in pool.map(one, range(20)):
            assert shape == music(0.4 + 0.02 * number).shape
            assert seed == str(1000 + number)
            assert f"band number {number} of twenty".encode() in file
