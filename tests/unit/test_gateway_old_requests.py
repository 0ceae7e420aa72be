"""What the old service's clients write, read as what it means here."""

import io
import math

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from melodyflow_client.audio import load
from melodyflow_gateway.edits.formats import format_of
from melodyflow_gateway.wire.old_requests import (
    SEEDS_READ_OUT,
    AudioDataRequest,
    TransformForm,
    TransformRequest,
)
from melodyflow_gateway.wire.requests import EditFields, StreamRequest

OLD = [TransformForm, TransformRequest, AudioDataRequest]
old = pytest.mark.parametrize("model", OLD)
everywhere = pytest.mark.parametrize("model", [*OLD, StreamRequest])

BLANKS = st.sampled_from([None, "", " ", "\t"])
NEGATIVE = st.integers(max_value=-1, min_value=-(10**30))


def written(seed: int) -> st.SearchStrategy[object]:
    """A seed as JSON, or a form, may have it."""
    return st.sampled_from([seed, str(seed), f" {seed} ", float(seed), f"{seed}.0"])


@given(
    st.sampled_from(OLD),
    BLANKS | NEGATIVE.flatmap(written) | st.just(...),
    st.sampled_from([..., None, "", True, "true"]),
)
def test_without_a_seed_each_edit_has_one_that_can_be_read_out(
    model: type[EditFields], seed: object, new_take: object
) -> None:
    given = {"seed": seed, "new_take": new_take}
    fields = model.model_validate({name: v for name, v in given.items() if v is not ...})
    asked = fields.options()
    assert 0 <= asked["seed"] < SEEDS_READ_OUT
    assert "new_take" not in asked


@given(st.sampled_from(OLD), st.integers(0, 2**31 - 1).flatmap(written))
def test_a_seed_of_ones_own_is_kept(model: type[EditFields], seed: object) -> None:
    assert model.model_validate({"seed": seed}).options()["seed"] == int(float(str(seed)))


@given(st.sampled_from(OLD), BLANKS | NEGATIVE.flatmap(written))
def test_who_asks_for_it_keeps_the_clips_seed(model: type[EditFields], seed: object) -> None:
    fields = model.model_validate({"seed": seed, "new_take": False})
    assert "seed" not in fields.options()


@old
@pytest.mark.parametrize(
    "seed", [-1.5, "-1.5", "-", "--1", "x", -math.inf, math.nan, True, [], "-1e400", "-" + "9" * 99]
)
def test_what_is_no_seed_is_refused(model: type[EditFields], seed: object) -> None:
    with pytest.raises(ValidationError):
        model.model_validate({"seed": seed})


def test_the_modern_route_keeps_a_clips_seed() -> None:
    for blank in ({}, {"seed": None}, {"seed": ""}):
        assert "seed" not in StreamRequest.model_validate(blank).options()
    with pytest.raises(ValidationError):
        StreamRequest.model_validate({"seed": -2})


@everywhere
@pytest.mark.parametrize("solver", ["midpoint", "MIDPOINT", "Midpoint", " midPoint "])
def test_a_solver_in_any_case(model: type[EditFields], solver: str) -> None:
    assert model.model_validate({"solver": solver}).options()["solver"] == "midpoint"


@old
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("wav", "wav"),
        ("WAV_Float", "wav32f"),
        ("wav_float", "wav32f"),
        ("wav32f", "wav32f"),
        ("wav24", "wav24"),
        (" flac ", "flac"),
    ],
)
def test_audio_format_is_another_name_of_format(
    model: type[EditFields], given: str, meant: str
) -> None:
    for both in ({}, {"format": meant}):
        fields = model.model_validate({"audio_format": given, **both})
        assert fields.options()["format"] == meant
        assert not fields.as_the_clip


@old
def test_auto_is_left_until_the_clip_is_known(model: type[EditFields]) -> None:
    fields = model.model_validate({"audio_format": "Auto"})
    assert fields.as_the_clip
    assert "format" not in fields.options()


@pytest.mark.parametrize(
    "given",
    [
        {"audio_format": "mp3"},
        {"audio_format": 16},
        {"audio_format": ["wav"]},
        {"audio_format": "flac", "format": "wav"},
        {"audio_format": "auto", "format": "wav"},
        {"audio_format": "auto", "duration": 3},
        {"transformation_type": "celtic", "variation": "chiptune"},
        {"prompt": "808 bass", "custom_prompt": "tin drum"},
    ],
)
def test_two_that_disagree_are_refused_by_the_old_name(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        TransformForm.model_validate(given)
    said = refused.value.errors()[0]["msg"].removeprefix("Value error, ")
    assert said.startswith(f"{next(iter(given))}: ")


def test_forms_have_names_of_their_own_for_variation_and_prompt() -> None:
    given = {"transformation_type": "celtic", "prompt": "808 bass", "custom_prompt": " "}
    asked = TransformForm.model_validate(given).options()
    assert (asked["variation"], asked["prompt"]) == ("celtic", "808 bass")
    # In JSON they are other clients' fields, and ignored like all of these.
    assert {"variation", "prompt"}.isdisjoint(TransformRequest.model_validate(given).options())


@everywhere
@pytest.mark.parametrize("blank", [None, "", "  "])
def test_an_empty_path_is_none(model: type[EditFields], blank: object) -> None:
    assert model.model_validate({"audio_file_path": blank}).options()


@pytest.mark.parametrize("model", [AudioDataRequest, StreamRequest])
def test_only_transform_takes_a_path(model: type[EditFields]) -> None:
    with pytest.raises(ValidationError, match="audio_file_path: only POST /transform"):
        model.model_validate({"audio_file_path": "/tmp/in.wav"})


@pytest.mark.parametrize(
    ("container", "subtype", "expected"),
    [
        ("WAV", "PCM_U8", "wav"),
        ("WAV", "PCM_16", "wav"),
        ("WAV", "PCM_24", "wav24"),
        ("WAV", "PCM_32", "wav32f"),
        ("WAV", "FLOAT", "wav32f"),
        ("WAV", "DOUBLE", "wav32f"),
        ("WAVEX", "PCM_24", "wav24"),
        ("RF64", "PCM_16", "wav"),
        ("W64", "FLOAT", "wav32f"),
        ("AIFF", "PCM_16", "wav"),
        ("AIFF", "PCM_24", "wav24"),
        ("FLAC", "PCM_16", "flac"),
        ("FLAC", "PCM_24", "flac"),
    ],
)
def test_a_clip_gives_its_format(container: str, subtype: str, expected: str) -> None:
    buffer = io.BytesIO()
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (4410, 2))
    soundfile.write(buffer, sound, 44100, format=container, subtype=subtype)
    assert format_of(load(buffer.getvalue())) == expected
