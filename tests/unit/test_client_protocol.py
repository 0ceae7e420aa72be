"""The tensor contract: options -> tensors, response tensors -> events, statuses -> errors."""

import difflib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, strategies

from melodyflow.contract import DEFAULT_LIMITS, INPUTS, REQUEST
from melodyflow_client import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    MelodyFlowError,
    Progress,
    Result,
    Retry,
    ServerError,
    Unavailable,
    UnknownVariation,
    load_presets,
)
from melodyflow_client.errors import from_status, from_text
from melodyflow_client.protocol import (
    Edit,
    decode_response,
    input_tensors,
    plan,
    plan_generation,
)
from melodyflow_client.seeds import LastSeeds
from melodyflow_client.status import checkpoint_of, loaded_checkpoint, pending_of

PRESETS = load_presets()


def planned(**options: Any) -> Edit:
    edit = plan(options, PRESETS)  # type: ignore[arg-type]  # wrong ones, too
    edit.check(DEFAULT_LIMITS)
    return edit


def generated(prompt: str | None = None, **options: Any) -> Edit:
    return plan_generation(prompt, options, PRESETS)  # type: ignore[arg-type]


def values(edit: Edit) -> dict[str, Any]:
    """What is sent, except the default loudness."""
    sent = {tensor.name: tensor.values[0, 0] for tensor in edit.tensors}
    return {k: v for k, v in sent.items() if (k, v) != ("loudness", b"source")}


def test_every_tensor_has_the_contracts_type_and_a_batch_of_one() -> None:
    edit = planned(
        prompt="piano – très doux",
        source_prompt="guitar",
        flowstep=0.25,
        steps=10,
        solver="euler",
        guidance=3,
        regularize_iters=4,
        keep_last_k_iters=2,
        lambda_kl=0.1,
        loop=True,
        loudness=-14,
        format="flac",
        sample_rate=44100,
        seed=7,
    )
    tensors = input_tensors(edit, b"RIFF", 7)
    assert {tensor.name: tensor.datatype for tensor in tensors} == {
        "audio": "BYTES",
        "encoding": "BYTES",
        "seed": "INT64",
        "prompt": "BYTES",
        "source_prompt": "BYTES",
        "flowstep": "FP32",
        "steps": "INT32",
        "solver": "BYTES",
        "guidance": "FP32",
        "regularize_iters": "INT32",
        "keep_last_k_iters": "INT32",
        "lambda_kl": "FP32",
        "loop": "BOOL",
        "loudness": "BYTES",
        "format": "BYTES",
        "sample_rate": "INT32",
    }
    dtypes = {
        "BYTES": "object",
        "BOOL": "bool",
        "FP32": "float32",
        "INT32": "int32",
        "INT64": "int64",
    }
    for tensor in tensors:
        assert tensor.values.shape == (1, 1)
        assert tensor.values.dtype == dtypes[tensor.datatype]
    sent = {tensor.name: tensor.values[0, 0] for tensor in tensors}
    assert sent["audio"] == b"RIFF"
    assert sent["encoding"] == b"raw"
    assert sent["prompt"].decode() == "piano – très doux"
    assert (sent["steps"], sent["seed"], sent["sample_rate"]) == (10, 7, 44100)


def test_a_prompt_alone_asks_for_the_sources_loudness_too_and_nothing_else() -> None:
    tensors = {tensor.name: tensor.values[0, 0] for tensor in planned(prompt="piano").tensors}
    assert tensors == {"prompt": b"piano", "loudness": b"source"}


def test_the_servers_defaults_are_not_sent() -> None:
    # So that servers without these inputs work, too.
    assert not planned(prompt="x", loudness="none", loop=False).tensors[1:]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [(-14, b"-14"), (-14.25, b"-14.25"), ("-9.5", b"-9.5"), (np.float32(-23), b"-23")],
)
def test_loudness_may_be_a_number(asked: Any, sent: bytes) -> None:
    assert values(planned(prompt="x", loudness=asked))["loudness"] == sent
    assert values(generated("x", duration=5, loudness=asked))["loudness"] == sent


def test_a_region() -> None:
    edit = planned(prompt="x", start=2, end=6.5)
    assert values(edit) == {"prompt": b"x", "start": np.float32(2), "end": np.float32(6.5)}
    assert {t.datatype for t in edit.tensors if t.name in ("start", "end")} == {"FP32"}
    assert values(planned(prompt="x", start=2)) == {"prompt": b"x", "start": np.float32(2)}
    assert planned(prompt="x").region is None


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"end": 9.602}, "end: 9.602 s is after the clip's end, 9.6 s"),
        ({"start": 3, "end": 12}, "end: 12 s is after the clip's end, 9.6 s"),
        ({"start": 12}, "start: 12 s must be at least 0.1 s before the end, 9.6 s"),
        ({"start": 9.51}, "start: 9.51 s must be at least 0.1 s before the end, 9.6 s"),
    ],
)
def test_a_region_lies_in_its_clip(region: dict[str, float], message: str) -> None:
    edit = planned(prompt="x", **region)
    assert edit.region
    with pytest.raises(InvalidRequest) as caught:
        edit.region.check(9.6)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "region",
    [{"start": 0}, {"end": 9.6}, {"end": 9.6004}, {"start": 9.5}, {"start": 2, "end": 2.1}],
)
def test_regions_to_the_clips_edges_and_of_a_tenth_of_a_second(region: dict[str, float]) -> None:
    edit = planned(prompt="x", **region)
    assert edit.region
    edit.region.check(9.6)


def test_text_to_music_sends_a_duration_and_no_audio() -> None:
    edit = generated("solo cello", duration=10, steps=32, seed=7)
    assert values(edit) == {"prompt": b"solo cello", "duration": np.float32(10), "steps": 32}
    assert {tensor.name for tensor in input_tensors(edit, None, 7)} == {
        *("prompt", "duration", "steps", "seed", "encoding")
    }
    assert {tensor.name for tensor in edit.tensors} == {"prompt", "duration", "steps"}


def test_text_to_music_uses_only_the_prompt_of_a_variation() -> None:
    edit = generated(variation="celtic", duration=10)
    assert values(edit) == {"prompt": PRESETS["celtic"].prompt.encode(), "duration": 10}
    assert edit.variation == "celtic"
    assert values(generated("kazoo", variation="celtic", duration=10))["prompt"] == b"kazoo"
    with pytest.raises(UnknownVariation, match="did you mean celtic"):
        generated(variation="celtik", duration=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "x"}, "duration: text-to-music needs one"),
        ({"duration": 5}, "prompt: give a prompt or a variation"),
        ({"duration": "5", "prompt": "x"}, "duration: must be a number"),
        ({"duration": 5, "prompt": "x", "flowstep": 0.1}, "flowstep: is for edits"),
        ({"duration": 5, "prompt": "x", "start": 0.1}, "start: is for edits"),
        ({"duration": 5, "prompt": "x", "loop": True}, "loop: is for edits"),
        ({"duration": 5, "prompt": "x", "source_prompt": "y"}, "source_prompt: is for edits"),
        ({"duration": 5, "prompt": "x", "loudness": "source"}, "loudness: text-to-music has no"),
    ],
)
def test_text_to_music_refuses_an_edits_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{message}"):
        generated(**options)
    with pytest.raises(TypeError, match="text-to-music has no option 'stepz'"):
        generated("x", duration=5, stepz=5)


def test_a_variation_sends_its_settings() -> None:
    sent = values(planned(variation="strings_quartet"))
    assert sent.pop("prompt") == PRESETS["strings_quartet"].prompt.encode()
    assert sent.pop("flowstep") == np.float32(0.12)
    assert sent.pop("lambda_kl") == np.float32(0.2)
    assert sent == {
        "steps": 25,
        "solver": b"euler",
        "regularize_iters": 2,
        "keep_last_k_iters": 1,
    }


def test_another_solver_brings_its_own_defaults() -> None:
    sent = values(planned(variation="strings_quartet", solver="midpoint"))
    assert set(sent) == {"prompt", "flowstep", "solver"}
    assert sent["flowstep"] == np.float32(0.12)
    sent = values(planned(variation="strings_quartet", solver="midpoint", steps=32))
    assert sent["steps"] == 32
    assert values(planned(variation="celtic", solver="euler"))["steps"] == 25


def test_what_is_asked_for_overrides_the_variation() -> None:
    edit = planned(variation="accordion_folk", prompt="808 bass", flowstep=0.05, steps=12)
    assert edit.variation == "accordion_folk"
    sent = values(edit)
    assert (sent["prompt"], sent["steps"]) == (b"808 bass", 12)
    assert sent["flowstep"] == np.float32(0.05)
    assert sent["regularize_iters"] == 2


def test_a_variations_k_goes_with_its_r() -> None:
    assert "keep_last_k_iters" not in values(planned(variation="celtic", regularize_iters=0))
    sent = values(planned(variation="celtic", regularize_iters=4, keep_last_k_iters=2))
    assert (sent["regularize_iters"], sent["keep_last_k_iters"]) == (4, 2)


def test_custom_needs_a_prompt() -> None:
    edit = planned(variation="custom", prompt="kazoo")
    assert (edit.variation, values(edit)) == ("custom", {"prompt": b"kazoo"})
    with pytest.raises(InvalidRequest, match=r"^prompt: variation 'custom' needs one"):
        planned(variation="custom")


@pytest.mark.parametrize("flowstep", [0.0, 0.05, 0.12, 0.3, 0.5, 0.999])
def test_strength_is_one_minus_flowstep_exactly(flowstep: float) -> None:
    sent = values(planned(prompt="x", strength=1 - flowstep))
    assert sent["flowstep"] == np.float32(flowstep)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "prompt: give a prompt or a variation"),
        ({"prompt": "x", "strength": 0.5, "flowstep": 0.5}, "strength: is 1 - flowstep"),
        ({"prompt": "x", "strength": 0}, "strength: must be more than 0"),
        ({"prompt": "x", "strength": 1.01}, "strength: must be"),
        ({"prompt": "x", "strength": float("nan")}, "strength: must be"),
        ({"prompt": 5}, "prompt: must be text"),
        ({"prompt": "\ud800"}, "prompt: not valid Unicode"),
        ({"prompt": "x", "steps": 25.0}, "steps: must be a whole number"),
        ({"prompt": "x", "steps": True}, "steps: must be a whole number"),
        ({"prompt": "x", "steps": 2**31}, "steps: 2147483648 is out of range"),
        ({"prompt": "x", "flowstep": "0.1"}, "flowstep: must be a number"),
        ({"prompt": "x", "seed": 2**64}, "seed: .* is out of range"),
        ({"prompt": "x", "seed": 5, "new_take": True}, "new_take: draws a new seed"),
        ({"prompt": "x", "timeout": 0}, "timeout: must be a positive number"),
        ({"prompt": "x", "timeout": float("inf")}, "timeout: must be"),
        ({"prompt": "x", "priority": -1}, "priority: must be"),
        ({"prompt": "x", "priority": 4}, "priority: must be 1 .* or 3, not 4"),
        ({"prompt": "x", "session_id": 5}, "session_id: must be text"),
        ({"prompt": "x", "start": -1}, "start: must be a number of seconds, 0 or more, not -1"),
        ({"prompt": "x", "end": float("nan")}, "end: must be a number of seconds"),
        ({"prompt": "x", "end": float("inf")}, "end: must be a number of seconds"),
        ({"prompt": "x", "start": "2"}, "start: must be a number"),
        ({"prompt": "x", "start": 6, "end": 2}, "start: 6 s must be before the end, 2 s"),
        ({"prompt": "x", "start": 2, "end": 2.05}, "start: 2 s must be at least 0.1 s before the"),
        ({"prompt": "x", "end": 0.05}, "start: 0 s must be at least 0.1 s before the end, 0.05 s"),
        ({"prompt": "x", "start": 2, "loop": True}, "loop: is for the whole clip"),
        ({"prompt": "x", "end": 2, "loop": True}, "loop: is for the whole clip"),
        ({"prompt": "x", "loop": 1}, "loop: must be True or False"),
        ({"prompt": "x", "loudness": "loud"}, "loudness: must be 'source', 'none' or a number"),
        ({"prompt": "x", "loudness": True}, "loudness: must be"),
        ({"prompt": "x", "duration": 5}, "duration: is for text-to-music"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{message}"):
        planned(**options)


def test_ranges_are_left_to_the_server() -> None:
    sent = values(planned(prompt="x", flowstep=float("nan"), steps=999, guidance=1e300, solver="a"))
    assert np.isnan(sent["flowstep"])
    assert np.isinf(sent["guidance"])
    assert (sent["steps"], sent["solver"]) == (999, b"a")


def test_a_misspelt_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="no option 'stepz'"):
        planned(prompt="x", stepz=5)


def test_unknown_variation() -> None:
    with pytest.raises(UnknownVariation, match="strings_quartet"):
        planned(variation="string_quartet")
    with pytest.raises(UnknownVariation):
        planned(variation=5)


def test_parameters_of_the_request() -> None:
    assert planned(prompt="x").parameters == {}
    edit = planned(prompt="x", session_id="abc", metadata=False, priority=1, timeout=5)
    assert edit.parameters == {"session_id": "abc", "metadata": False}
    assert (edit.priority, edit.timeout) == (1, 5.0)


def response(shape: tuple[int, ...] = (1, 1), **more: Any) -> dict[str, np.ndarray]:
    def of(value: object, dtype: object) -> np.ndarray:
        array = np.empty(shape, dtype=dtype)
        array[...] = value
        return array

    outputs = {
        "progress": of(0.5, np.float32),
        "stage": of(b"inverting", np.object_),
        "step": np.array([3, 75], np.int32).reshape((2,) if len(shape) == 1 else (1, 2)),
    }
    dtypes = {"sample_rate": np.int32, "seed": np.int64, "gain_db": np.float32}
    return outputs | {name: of(v, dtypes.get(name, np.object_)) for name, v in more.items()}


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_responses_become_events(shape: tuple[int, ...]) -> None:
    assert decode_response(response(shape)) == Progress("inverting", 0.5, 3, 75)
    last = response(
        shape,
        audio=b"RIFF....",
        sample_rate=48000,
        seed=2**31 - 1,
        gain_db=-1.5,
        info=json.dumps({"precision": "fp32"}).encode(),
    )
    result = decode_response(last, variation="celtic", request_id="id")
    assert isinstance(result, Result)
    assert (result.audio, result.sample_rate, result.seed) == (b"RIFF....", 48000, 2**31 - 1)
    assert (result.gain_db, result.info) == (-1.5, {"precision": "fp32"})
    assert (result.variation, result.request_id, result.container) == ("celtic", "id", "wav")


def test_a_response_that_breaks_the_contract_is_a_server_error() -> None:
    for outputs in (
        {},
        {"progress": np.zeros(1)},
        response(audio=b"x"),
        response(audio=b"x", sample_rate=1, seed=1, gain_db=0, info=b"{"),
        response(audio=b"x", sample_rate=1, seed=1, gain_db=0, info=b"[]"),
    ):
        with pytest.raises(ServerError, match="contract"):
            decode_response(outputs)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        ("INVALID_ARGUMENT", "steps: 0; a whole number 1-128", InvalidRequest),
        ("UNAVAILABLE", "Exceeds maximum queue size", Unavailable),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineExceeded),
        ("CANCELLED", "timeout_s: the edit was not done within 5 s", DeadlineExceeded),
        ("INVALID_ARGUMENT", "timeout_s: 0; a number above 0", InvalidRequest),
        ("CANCELLED", "the client cancelled", Cancelled),
        ("INTERNAL", "failed", ServerError),
        ("UNKNOWN", "?", ServerError),
    ],
)
def test_statuses_become_errors_with_the_text_unaltered(
    status: str, text: str, kind: type[Exception]
) -> None:
    error = from_status(status, text)
    assert type(error) is kind
    assert (str(error), error.message, error.status) == (text, text, status)


def test_the_last_seed_of_a_clip_is_kept() -> None:
    seeds = LastSeeds()
    first = seeds.choose("riff")
    assert 0 <= first < 2**31
    assert seeds.choose("riff") == first
    assert seeds.choose("other") != first
    assert seeds.choose("riff", seed=5) == 5
    assert seeds.choose("riff") == 5
    take = seeds.choose("riff", new_take=True)
    assert take != 5
    assert seeds.choose("riff") == take
    assert seeds.choose("riff", seed=-1) not in (take, -1)


def test_an_invalid_seed_is_sent_but_not_kept() -> None:
    seeds = LastSeeds()
    kept = seeds.choose("riff")
    assert seeds.choose("riff", seed=2**40) == 2**40
    assert seeds.choose("riff") == kept


def test_kept_seeds_are_bounded_and_the_oldest_go_first() -> None:
    seeds = LastSeeds(capacity=2)
    first, second = seeds.choose("a"), seeds.choose("b")
    assert seeds.choose("a") == first
    seeds.choose("c")
    assert seeds.choose("a") == first
    assert seeds.choose("b") != second


def test_delays_double_up_to_a_maximum_with_jitter() -> None:
    delays = list(Retry(retries=6, first=1, longest=8).delays())
    assert len(delays) == 6
    for delay, whole in zip(delays, [1, 2, 4, 8, 8, 8], strict=True):
        assert whole / 2 <= delay <= whole
    assert list(Retry(retries=0).delays()) == []


def test_status_reads_tritons_own_forms() -> None:
    text = (
        "# HELP nv_inference_pending_request_count Pending\n"
        'nv_inference_pending_request_count{model="other",version="1"} 9\n'
        'nv_inference_pending_request_count{model="melodyflow",version="1"} 3.000000\n'
    )
    assert pending_of(text, "melodyflow") == 3
    assert pending_of("", "melodyflow") is None
    text += 'melodyflow_checkpoint_info{licence="none",name="tiny"} 1\n'
    assert loaded_checkpoint(text) == "tiny"
    assert loaded_checkpoint("") is None
    config = {"config": {"parameters": {"checkpoint": {"string_value": "/weights/tiny"}}}}
    assert checkpoint_of(config) == "/weights/tiny"
    assert checkpoint_of({"config": {}}) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Exceeds maximum queue size", Unavailable),
        ("[request id: 7] inference request batch-size ... Request timeout expired", Unavailable),
        ("unexpected inference input 'promt' for model 'melodyflow'", InvalidRequest),
        ("inference input 'steps' data-type is 'FP32', expected 'INT32'", InvalidRequest),
        ("unexpected shape for input 'prompt' for model 'melodyflow'", InvalidRequest),
        ("something else", ServerError),
    ],
)
def test_tritons_errors_without_a_status_are_recognised_by_text(
    text: str, kind: type[MelodyFlowError]
) -> None:
    assert type(from_status("UNKNOWN", text)) is kind
    assert str(from_status("UNKNOWN", text)) == text


CODES = {
    "INVALID_ARGUMENT": InvalidRequest,
    "CANCELLED": Cancelled,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAVAILABLE": Unavailable,
    "INTERNAL": ServerError,
}


@given(text=strategies.text(min_size=1), code=strategies.sampled_from(sorted(CODES)))
def test_the_code_at_the_end_of_a_text_is_split_off(text: str, code: str) -> None:
    assume(not text.startswith("timeout_s") and not text.endswith("; the server restarts"))
    error = from_text(f"{text} [{code}]")
    assert type(error) is CODES[code]
    assert (error.message, str(error), error.status) == (text, text, code)


@given(
    text=strategies.text(),
    end=strategies.sampled_from(
        ["", " ", "\n", ".", " [NOT_FOUND]", " [internal]", " [INTERNAL]\n"]
    ),
)
def test_a_text_without_a_code_stays_as_it_is(text: str, end: str) -> None:
    assume(from_text(f"{text}{end}").status == "UNKNOWN")
    assert from_text(f"{text}{end}").message == (f"{text}{end}" or "UNKNOWN")


def test_only_the_last_code_counts() -> None:
    error = from_text("prompt: 'x [CANCELLED]'; 1 to 1000 characters [INTERNAL] [INVALID_ARGUMENT]")
    assert error.message == "prompt: 'x [CANCELLED]'; 1 to 1000 characters [INTERNAL]"
    assert error.status == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("text", "kind", "status"),
    [
        ("audio: missing; send a WAV or FLAC file", InvalidRequest, "INVALID_ARGUMENT"),
        ("steps: 0; 1 to 128 are allowed", InvalidRequest, "INVALID_ARGUMENT"),
        ("prompt: 'Exceeds maximum queue size'; no", InvalidRequest, "INVALID_ARGUMENT"),
        (
            "promt: 'y'; no such input or parameter; is prompt meant?",
            InvalidRequest,
            "INVALID_ARGUMENT",
        ),
        ("timeout_s: -1; a number of seconds above 0", InvalidRequest, "INVALID_ARGUMENT"),
        (
            "timeout_s: the edit was not done within 5 s; it ended",
            DeadlineExceeded,
            "DEADLINE_EXCEEDED",
        ),
        ("the client cancelled the request", Cancelled, "CANCELLED"),
        ("the server is shutting down; try again", Unavailable, "UNAVAILABLE"),
        ("the server's step loop died; the server restarts", Unavailable, "UNKNOWN"),
        ("the server's step loop died; the server restarts [INTERNAL]", Unavailable, "INTERNAL"),
        (
            "Request for unknown model: 'melodyflow' has no available versions",
            Unavailable,
            "UNAVAILABLE",
        ),
        ("Stub process 'melodyflow_0_0' is not healthy.", Unavailable, "UNAVAILABLE"),
        ("the edit failed: ValueError('steps: 0')", ServerError, "UNKNOWN"),
        ("velocity: not finite", ServerError, "UNKNOWN"),
    ],
)
def test_texts_of_servers_that_send_no_code(text: str, kind: type[Exception], status: str) -> None:
    error = from_text(text)
    assert type(error) is kind
    assert (error.message, error.status) == (text.removesuffix(" [INTERNAL]"), status)


def test_every_input_and_parameter_is_known_by_its_name() -> None:
    for name in (*INPUTS, *REQUEST):
        allowed = "a number of seconds above 0"
        assert isinstance(from_text(f"{name}: 'value'; {allowed}"), InvalidRequest)


@pytest.mark.parametrize("huge", ["x" * 10**7, "celtic" * 10**6, "ü\n" * 10**6])
@pytest.mark.parametrize(
    "name", ["variation", "steps", "guidance", "loop", "loudness", "priority", "timeout", "seed"]
)
def test_huge_values_are_cut_before_they_are_compared_or_quoted(
    name: str, huge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    monkeypatch.setattr(
        difflib, "get_close_matches", lambda name, *_, **__: compared.append(name) or []
    )
    options: dict[str, Any] = {"prompt": "x", name: huge}
    with pytest.raises(InvalidRequest) as caught:
        planned(**options)
    assert len(str(caught.value)) < 400
    assert all(len(name) <= 80 for name in compared)
