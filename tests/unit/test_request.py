"""The tensor contract's ranges, without a server: a bad value is refused by its input's name."""

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from melodyflow.audio import Limits, write
from melodyflow.errors import Code, EditError
from melodyflow.serving.request import EditRequest, read_request
from melodyflow.serving.settings import Settings

WAV = write(np.zeros((1, 4800), np.float32), 48000, "wav", {})
SETTINGS = Settings(checkpoint="unused")


def read(parameters: dict[str, Any] | None = None, **inputs: Any) -> EditRequest:
    """A request of these inputs beside the two that are always needed; None leaves one out."""
    values = {"audio": WAV, "prompt": b"strings", **inputs}
    tensors = {
        name: value if isinstance(value, np.ndarray) else np.array([[value]])
        for name, value in values.items()
        if value is not None
    }
    for name in ("audio", "prompt"):
        if name in tensors and isinstance(values[name], bytes):
            tensors[name] = np.array([[values[name]]], dtype=np.object_)
    return read_request(
        tensors,
        parameters or {},
        settings=SETTINGS,
        limits=Limits(),
        max_seconds=60.0,
        guidance=2.5,
    )


def test_defaults_are_the_contracts() -> None:
    request = read()
    edit = request.parameters
    assert (edit.flowstep, edit.steps, edit.solver) == (0.12, 25, "euler")
    assert (edit.regularize_iters, edit.keep_last_k_iters, edit.lambda_kl) == (2, 1, 0.2)
    assert edit.guidance == 2.5, "the checkpoint's"
    assert edit.source_prompt == ""
    assert (request.format, request.sample_rate, request.stream) == ("wav", None, True)
    assert (request.timeout_s, request.session_id, request.metadata) == (None, "", True)


def test_midpoint_has_its_own_defaults() -> None:
    edit = read(solver=b"midpoint").parameters
    assert (edit.steps, edit.regularize_iters, edit.keep_last_k_iters) == (64, 0, 0)
    assert edit.evaluations == 128


def test_text_to_music_has_its_own_defaults() -> None:
    request = read(audio=None, duration=np.float32(12.3))
    assert (request.audio, request.encoding) == (None, "base64")
    parameters = request.parameters
    assert (parameters.solver, parameters.steps, parameters.guidance) == ("midpoint", 64, 2.5)
    assert (parameters.duration, parameters.flowstep, parameters.regularize_iters) == (12.3, 0, 0)
    assert parameters.evaluations == 64
    shown = {"prompt", "seed", "solver", "steps", "guidance", "duration"}
    assert parameters.in_effect().keys() == shown
    assert read(audio=None, duration=np.float32(1), encoding=b"raw").encoding == "raw"


@pytest.mark.parametrize(
    ("sent", "read_as"),
    [(None, None), (b"none", None), (b"source", "source"), (b"-14", "-14"), (b"-14.5", "-14.5")],
)
def test_loudness_is_asked_for_in_words_or_numbers(sent: bytes | None, read_as: str | None) -> None:
    assert read(loudness=sent).loudness == read_as


def test_a_loop_that_is_false_is_none() -> None:
    assert not read(loop=False, start=np.float32(1)).parameters.loop
    assert read(audio=None, duration=np.float32(2), loop=False).parameters.duration == 2
    assert read(loop=True).parameters.loop


def test_seeds_are_drawn_in_range_and_echoed() -> None:
    seeds = {read().parameters.seed for _ in range(20)} | {read(seed=-1).parameters.seed}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert read(seed=0).parameters.seed == 0
    assert read(seed=2**31 - 1).parameters.seed == 2**31 - 1


BAD_INPUTS: list[tuple[str, dict[str, Any]]] = [
    ("prompt", {"prompt": None}),
    ("prompt", {"prompt": b""}),
    ("prompt", {"prompt": b" \n\t"}),
    ("prompt", {"prompt": b"x" * 1001}),
    ("prompt", {"prompt": b"\xff\xfe"}),
    ("source_prompt", {"source_prompt": b"x" * 1001}),
    ("audio", {"audio": None}),
    ("encoding", {"encoding": b"hex"}),
    ("flowstep", {"flowstep": np.float32(1)}),
    ("flowstep", {"flowstep": np.float32(-0.1)}),
    ("flowstep", {"flowstep": np.float32("nan")}),
    ("flowstep", {"flowstep": np.float32("inf")}),
    ("steps", {"steps": 0}),
    ("steps", {"steps": 129}),
    ("steps", {"steps": 25, "solver": b"midpoint"}),
    ("solver", {"solver": b"heun"}),
    ("solver", {"solver": b"\xff"}),
    ("guidance", {"guidance": np.float32(-1)}),
    ("guidance", {"guidance": np.float32(10.1)}),
    ("guidance", {"guidance": np.float32("nan")}),
    ("regularize_iters", {"regularize_iters": 9}),
    ("regularize_iters", {"regularize_iters": -1}),
    ("regularize_iters", {"regularize_iters": 1}),
    ("regularize_iters", {"regularize_iters": 1, "keep_last_k_iters": 1}),
    ("regularize_iters", {"regularize_iters": 2, "solver": b"midpoint"}),
    ("keep_last_k_iters", {"keep_last_k_iters": 0}),
    ("keep_last_k_iters", {"keep_last_k_iters": 3}),
    ("keep_last_k_iters", {"keep_last_k_iters": 1, "regularize_iters": 0}),
    ("lambda_kl", {"lambda_kl": np.float32(1.5)}),
    ("seed", {"seed": -2}),
    ("seed", {"seed": 2**31}),
    ("format", {"format": b"mp3"}),
    ("sample_rate", {"sample_rate": 7999}),
    ("sample_rate", {"sample_rate": 192001}),
    ("steps", {"steps": np.array([[1, 2]])}),
    # a region
    ("start", {"start": np.float32(-0.1)}),
    ("start", {"start": np.float32("nan")}),
    ("start", {"start": np.float32(2), "end": np.float32(2)}),
    ("start", {"start": np.float32(3), "end": np.float32(2)}),
    ("end", {"end": np.float32("inf")}),
    ("loop", {"loop": True, "start": np.float32(1)}),
    ("loop", {"loop": True, "end": np.float32(1)}),
    *(
        ("loudness", {"loudness": value})
        for value in (b"loud", b"", b"nan", b"inf", b"1", b"-70.1", b"Source", b"\xff")
    ),
    ("loudness", {"audio": None, "duration": np.float32(2), "loudness": b"source"}),
    # text-to-music
    ("duration", {"duration": np.float32(2)}),  # and audio
    ("duration", {"audio": None, "duration": np.float32(0.09)}),
    ("duration", {"audio": None, "duration": np.float32(60.1)}),
    ("duration", {"audio": None, "duration": np.float32("nan")}),
    ("encoding", {"audio": None, "duration": np.float32(2), "encoding": b"hex"}),
    ("steps", {"audio": None, "duration": np.float32(2), "steps": 25}),
    *(
        (name, {"audio": None, "duration": np.float32(2), name: value})
        for name, value in {
            "source_prompt": b"",
            "flowstep": np.float32(0.12),
            "regularize_iters": 0,
            "keep_last_k_iters": 0,
            "lambda_kl": np.float32(0.2),
            "start": np.float32(0),
            "end": np.float32(1),
            "loop": True,
        }.items()
    ),
]


@pytest.mark.parametrize(("name", "inputs"), BAD_INPUTS)
def test_bad_inputs_are_refused_by_name(name: str, inputs: dict[str, Any]) -> None:
    with pytest.raises(EditError, match=rf"^{name}: ") as caught:
        read(**inputs)
    assert caught.value.code == Code.INVALID_ARG


BAD_PARAMETERS: list[tuple[str, dict[str, Any], str]] = [
    ("flowstpe", {"flowstpe": 0.2}, "did you mean 'flowstep'"),
    ("durations", {"durations": 3}, "no such input or parameter"),
    ("audio_file_path", {"audio_file_path": "/etc/passwd"}, "no such input or parameter"),
    ("timeout_s", {"timeout_s": 0}, "above 0"),
    ("timeout_s", {"timeout_s": "soon"}, "above 0"),
    ("timeout_s", {"timeout_s": True}, "above 0"),
    ("timeout_s", {"timeout_s": float("nan")}, "above 0"),
    ("metadata", {"metadata": "perhaps"}, "true or false"),
]


@pytest.mark.parametrize(("name", "parameters", "hint"), BAD_PARAMETERS)
def test_bad_parameters_are_refused_by_name(
    name: str, parameters: dict[str, Any], hint: str
) -> None:
    with pytest.raises(EditError, match=rf"^{name}: .*{hint}"):
        read(parameters)


def test_parameters_and_tritons_own_are_taken() -> None:
    request = read(
        {
            "timeout_s": 2.5,
            "session_id": "s1",
            "metadata": False,
            "id": "x",
            "priority": 1,
            "timeout": 1000,
            "triton_enable_empty_final_response": True,
        }
    )
    assert (request.timeout_s, request.session_id, request.metadata) == (2.5, "s1", False)


def test_a_long_value_is_not_echoed_whole() -> None:
    with pytest.raises(EditError) as caught:
        read(solver=b"x" * 10_000)
    assert len(str(caught.value)) < 200


HUGE = ["x" * 10**7, "promt" * 10**6, "\xff\x00" * 10**6, "ü\n" * 10**6]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was compared with the names that exist: it takes time with every character."""
    seen: list[str] = []

    def compare(name: str, *_: object) -> list[str]:
        seen.append(name)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", compare)
    return seen


@pytest.mark.parametrize("text", HUGE, ids=lambda text: text[:5])
@pytest.mark.parametrize("where", ["name", "value", "timeout_s", "metadata", "solver", "format"])
def test_what_is_huge_is_cut_before_it_is_compared_and_quoted(
    where: str, text: str, compared: list[str]
) -> None:
    requests: dict[str, Callable[[], EditRequest]] = {
        "name": lambda: read({text: 1}),
        "value": lambda: read({"promt": text}),
        "timeout_s": lambda: read({"timeout_s": text}),
        "metadata": lambda: read({"metadata": text}),
        "solver": lambda: read(solver=np.array([[text.encode()]], dtype=np.object_)),
        "format": lambda: read(format=np.array([[text.encode()]], dtype=np.object_)),
    }
    with pytest.raises(EditError) as caught:
        requests[where]()
    assert len(str(caught.value)) < 700  # the longest names all that exist
    assert all(len(name) <= 80 for name in compared)
