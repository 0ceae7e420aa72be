"""One edit over gRPC, over HTTP with events and over HTTP with one answer: the same result."""

import base64
import json
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodyflow.embedded import EmbeddedServer
from melodyflow.model.checkpoint import open_checkpoint

from . import oracle, raw
from .raw import Outputs, Response

Send = Callable[[EmbeddedServer, raw.Inputs], list[Response]]

STREAMING: list[Any] = [
    pytest.param(raw.over_grpc, id="grpc"),
    pytest.param(raw.over_generate_stream, id="generate_stream"),
]
EVERY: list[Any] = [*STREAMING, pytest.param(raw.over_generate, id="generate")]

STAGES = [b"encoding", b"inverting", b"generating", b"decoding", b"done"]
RESULT_OUTPUTS = {"audio", "sample_rate", "seed", "gain_db", "info"}
PROGRESS_OUTPUTS = {"progress", "stage", "step"}

CLIP = raw.file_of(raw.music(1), 48000)
QUICK: raw.Inputs = {"audio": CLIP, "prompt": "a string quartet", "steps": 2, "seed": 7}


# --- the same edit over every transport ---------------------------------------------------------


@pytest.fixture(scope="module")
def everywhere(server: EmbeddedServer) -> dict[str, list[Response]]:
    """A whole window of stereo at 48 kHz, edited over each transport with one seed."""
    window = raw.file_of(raw.music(30), 48000)
    assert len(raw.json_body({"audio": window})) > 4 * 2**20  # what once overran Triton's stack
    inputs = {"audio": window, "prompt": "a string quartet", "steps": 3, "seed": 7}
    return {each.id: each.values[0](server, inputs) for each in EVERY}


def test_every_transport_gives_the_same_bytes(everywhere: dict[str, list[Response]]) -> None:
    results = {name: responses[-1].outputs for name, responses in everywhere.items()}
    file = results["grpc"]["audio"]
    samples, rate = raw.decoded(file)
    assert (samples.shape, rate) == ((2, 30 * 48000), 48000)
    for name in ("generate_stream", "generate"):
        assert base64.b64decode(results[name]["audio"], validate=True) == file, name
        for output in ("sample_rate", "seed", "gain_db", "progress", "stage", "step"):
            assert results[name][output] == results["grpc"][output], (name, output)


def test_only_the_result_carries_the_results_outputs(
    everywhere: dict[str, list[Response]],
) -> None:
    for responses in everywhere.values():
        for response in responses[:-1]:
            assert set(response.outputs) == PROGRESS_OUTPUTS
        assert set(responses[-1].outputs) == PROGRESS_OUTPUTS | RESULT_OUTPUTS


def test_generate_gets_exactly_one_response(everywhere: dict[str, list[Response]]) -> None:
    assert len(everywhere["generate"]) == 1
    assert len(everywhere["grpc"]) > 1


def test_triton_is_told_once_that_it_was_the_last_one(
    everywhere: dict[str, list[Response]],
) -> None:
    assert [response.final for response in everywhere["grpc"][:-1]] == [False] * (
        len(everywhere["grpc"]) - 1
    )
    assert everywhere["grpc"][-1].final


def test_no_stream_over_grpc_either(server: EmbeddedServer) -> None:
    with raw.Stream(server, {**QUICK, "stream": False}) as stream:
        responses = list(stream)
    assert [response.outputs["stage"] for response in responses] == [b"done"]


# --- progress -----------------------------------------------------------------------------------


@pytest.fixture
def seed() -> int:
    """One that no edit had before, so that no part of its work is found done."""
    return secrets.randbelow(2**31)


@pytest.mark.parametrize("send", STREAMING)
@pytest.mark.parametrize(
    ("solve", "evaluations"),
    [
        ({"steps": 25}, 75),
        ({"steps": 9, "regularize_iters": 4, "keep_last_k_iters": 4}, 45),
        ({"steps": 1, "regularize_iters": 0}, 2),
        ({"steps": 20, "solver": "midpoint"}, 40),
    ],
    ids=["euler", "R=4", "R=0", "midpoint"],
)
def test_progress(
    server: EmbeddedServer, send: Send, solve: dict[str, Any], evaluations: int, seed: int
) -> None:
    inputs = {**QUICK, **solve, "seed": seed}
    responses = [response.outputs for response in send(server, inputs)]
    stages = [response["stage"] for response in responses]
    assert list(dict.fromkeys(stages)) == STAGES  # each of them, in this order
    assert stages == sorted(stages, key=STAGES.index)
    progress = [response["progress"] for response in responses]
    assert progress == sorted(progress)
    assert all(0 <= value < 1 for value in progress[:-1])
    assert progress[-1] == 1
    done = [response["step"][0] for response in responses]
    assert done == sorted(done)
    assert {response["step"][1] for response in responses} == {evaluations}
    assert done[0] == 0
    assert done[-1] == evaluations
    # the inversion is over when the generation begins, everything when the decoding does
    assert done[stages.index(b"generating")] == evaluations - solve["steps"]
    assert done[stages.index(b"decoding")] == evaluations


def test_progress_is_throttled(server: EmbeddedServer, seed: int) -> None:
    begun = time.monotonic()
    with raw.Stream(server, {**QUICK, "steps": 128, "seed": seed}) as stream:
        responses = list(stream)
    at = {response.outputs["stage"]: response.at for response in reversed(responses)}
    most = (responses[-1].at - begun) / 0.1 + len(STAGES)
    assert most < 128 * 3 / 2  # else this machine is too slow for the test to say anything
    assert len(responses) <= most
    # And yet it moves, at a good part of what the throttle lets through.
    assert len(responses) >= (at[b"decoding"] - at[b"inverting"]) / 0.1 / 4


# --- encodings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "encoding", "back"),
    [
        ("raw", None, "raw"),
        ("raw", "raw", "raw"),
        ("base64", None, "base64"),
        ("base64", "base64", "base64"),
    ],
)
def test_audio_returns_as_it_came(
    server: EmbeddedServer, sent: str, encoding: str | None, back: str
) -> None:
    inputs = dict(QUICK)
    if sent == "base64":
        inputs["audio"] = base64.b64encode(CLIP)
    if encoding:
        inputs["encoding"] = encoding
    came = raw.transform(server, inputs)["audio"]
    file = base64.b64decode(came, validate=True) if back == "base64" else came
    assert file[:4] == b"RIFF"
    assert raw.decoded(file)[0].shape == (2, 48000)


# --- the seed -----------------------------------------------------------------------------------


def test_a_random_seed_is_answered_and_repeats_the_edit(server: EmbeddedServer) -> None:
    unseeded = {name: value for name, value in QUICK.items() if name != "seed"}
    first = raw.transform(server, unseeded)
    second = raw.transform(server, {**QUICK, "seed": -1})
    for result in (first, second):
        assert 0 <= result["seed"] < 2**31
        assert json.loads(result["info"])["parameters"]["seed"] == result["seed"]
    assert first["seed"] != second["seed"]
    assert first["audio"] != second["audio"]
    assert raw.transform(server, {**QUICK, "seed": first["seed"]})["audio"] == first["audio"]


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_the_seeds_at_the_ends_of_the_range(server: EmbeddedServer, seed: int) -> None:
    assert raw.transform(server, {**QUICK, "seed": seed})["seed"] == seed


# --- what the result says of itself -------------------------------------------------------------


def test_info_is_complete(server: EmbeddedServer, checkpoint: Path, seed: int) -> None:
    asked = {
        "prompt": "ein Streichquartett, dreißig Geigen – 弦楽",
        "source_prompt": "a piano",
        "flowstep": 0.25,
        "steps": 4,
        "solver": "euler",
        "guidance": 2.5,
        "regularize_iters": 3,
        "keep_last_k_iters": 2,
        "lambda_kl": 0.5,
        "seed": seed,
        "format": "flac",
        "sample_rate": 44100,
    }
    info = json.loads(raw.transform(server, {"audio": CLIP, **asked})["info"])
    assert info["parameters"] == {**asked, "loop": False, "loudness": "none"}
    opened = open_checkpoint(checkpoint)
    assert info["checkpoint"] == {
        "name": opened.name,
        "sha256": opened.sha256,
        "licence": opened.licence,
    }
    assert info["precision"] == "fp32"
    assert "inversion" not in info["shared"]  # nobody else has this seed
    assert set(info["seconds"]) == {"encoding", "inverting", "generating", "decoding"}
    assert all(seconds >= 0 for seconds in info["seconds"].values())
    assert info["ai_generated"] is True


def test_info_names_the_defaults_and_they_are_the_contracts(server: EmbeddedServer) -> None:
    euler: dict[str, Any] = {
        "prompt": "a string quartet",
        "source_prompt": "",
        "flowstep": 0.12,
        "steps": 25,
        "solver": "euler",
        "guidance": 4.0,
        "regularize_iters": 2,
        "keep_last_k_iters": 1,
        "lambda_kl": 0.2,
        "seed": 7,
        "format": "wav",
        "loop": False,
        "loudness": "none",
        "sample_rate": 48000,
    }
    bare = {"audio": CLIP, "prompt": "a string quartet", "seed": 7}
    implied = raw.transform(server, bare)
    assert json.loads(implied["info"])["parameters"] == euler
    # The same values sent as FP32 and INT32 are the same edit.
    spoken = raw.transform(server, {"audio": CLIP, **euler})
    assert json.loads(spoken["info"])["parameters"] == euler
    assert spoken["audio"] == implied["audio"]

    midpoint = euler | {"solver": "midpoint", "steps": 64}
    midpoint |= {"regularize_iters": 0, "keep_last_k_iters": 0}
    named = raw.transform(server, {**bare, "solver": "midpoint"})
    assert json.loads(named["info"])["parameters"] == midpoint


@pytest.mark.parametrize("format", ["wav", "wav24", "wav32f", "flac"])
def test_the_file_says_what_it_is(server: EmbeddedServer, checkpoint: Path, format: str) -> None:
    prompt = "ein Streichquartett – 弦楽"
    inputs = {**QUICK, "prompt": prompt, "format": format}
    result = raw.transform(server, inputs)
    opened = open_checkpoint(checkpoint)
    said = "\n".join(raw.comments_of(result["audio"]).values())
    for words in ("AI-generated", prompt, "Seed: 7", opened.name, opened.sha256[:12]):
        assert words in said
    assert f"licence: {opened.licence}" in said


@pytest.mark.parametrize("format", ["wav", "wav24", "wav32f", "flac"])
def test_without_metadata_the_file_says_nothing(server: EmbeddedServer, format: str) -> None:
    inputs = {**QUICK, "prompt": "zither", "format": format}
    told = raw.transform(server, inputs)["audio"]
    silent = raw.transform(server, inputs, metadata=False)["audio"]
    assert raw.comments_of(silent) == {}
    assert b"zither" in told
    assert b"zither" not in silent
    assert b"AI-generated" not in silent
    np.testing.assert_array_equal(raw.decoded(silent)[0], raw.decoded(told)[0])


def test_metadata_and_session_as_json_keys(server: EmbeddedServer, server_log: Path) -> None:
    inputs = {**QUICK, "metadata": False, "session_id": "studio-12", "id": "take-3"}
    (answer,) = raw.over_generate(server, inputs)
    assert raw.comments_of(base64.b64decode(answer.outputs["audio"])) == {}
    pattern = r"edit id='take-3' session='studio-12' done after"
    assert raw.eventually(lambda: re.search(pattern, server_log.read_text()))


def test_outputs_are_of_the_contracts_types(server: EmbeddedServer) -> None:
    outputs: Outputs = raw.transform(server, QUICK)
    kinds = {name: type(value) for name, value in outputs.items()}
    assert kinds == {
        "progress": float,
        "stage": bytes,
        "step": list,
        "audio": bytes,
        "sample_rate": int,
        "seed": int,
        "gain_db": float,
        "info": bytes,
    }


# --- the definition of correct ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solve", "rate", "channels"),
    [
        ({"steps": 5, "source_prompt": "a piano"}, 48000, 2),
        ({"steps": 4, "solver": "midpoint", "guidance": 0.0}, 44100, 1),
    ],
    ids=["euler", "midpoint"],
)
def test_the_result_is_the_sequential_edits(
    server: EmbeddedServer, checkpoint: Path, solve: dict[str, Any], rate: int, channels: int
) -> None:
    file = raw.file_of(raw.music(1, rate, channels), rate)
    inputs = {"audio": file, "prompt": "a harp", "seed": 3, "format": "wav32f", **solve}
    result = raw.transform(server, inputs)

    if solve.get("solver") == "midpoint":
        solve = {"regularize_iters": 0, "keep_last_k_iters": 0, **solve}
    expected = oracle.edited(checkpoint, file, prompt="a harp", seed=3, **solve)
    samples, own_rate = raw.decoded(result["audio"])
    assert own_rate == rate
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_prompt_a_seed_and_a_flowstep_make_a_difference(server: EmbeddedServer) -> None:
    """Else everything above would hold for a server that gives back what it was sent."""
    base = raw.transform(server, QUICK)["audio"]
    for change in ({"prompt": "a drum kit"}, {"seed": 8}, {"flowstep": 0.6}, {"guidance": 1.0}):
        changed = raw.decoded(raw.transform(server, {**QUICK, **change})["audio"])[0]
        assert np.abs(changed - raw.decoded(base)[0]).max() > 1e-3, change
