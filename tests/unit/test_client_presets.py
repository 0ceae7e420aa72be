"""The variations: the 33 names, the schema, your own files."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import pytest

from melodyflow_client import PresetError, UnknownVariation, load_presets
from melodyflow_client.presets import find_problem

ROOT = Path(__file__).resolve().parents[2]

NAMES = [
    "accordion_folk",
    "banjo_bluegrass",
    "piano_classical",
    "celtic",
    "strings_quartet",
    "synth_retro",
    "synth_modern",
    "synth_ambient",
    "synth_edm",
    "rock_band",
    "cinematic_epic",
    "lofi_chill",
    "synth_bass",
    "retro_rpg",
    "steel_drums",
    "chiptune",
    "gamelan_fusion",
    "music_box",
    "trap_808",
    "lo_fi_drums",
    "boom_bap",
    "percussion_ensemble",
    "future_bass",
    "synthwave_retro",
    "melodic_techno",
    "dubstep_wobble",
    "glitch_hop",
    "digital_disruption",
    "circuit_bent",
    "orchestral_glitch",
    "vapor_drums",
    "industrial_textures",
    "jungle_breaks",
]


def own_file(tmp_path: Path, variations: object, **rest: object) -> Path:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"variations": variations, **rest}))
    return path


def test_the_33_names_of_the_legacy_contract() -> None:
    presets = load_presets()
    assert list(presets) == NAMES
    assert len({preset.prompt for preset in presets.values()}) == 33
    assert {p.category for p in presets.values()} == {
        "acoustic",
        "synthesizer",
        "band",
        "hybrid",
        "hip_hop_percussion",
        "electronic",
        "glitch",
        "experimental",
    }
    for preset in presets.values():
        assert (preset.flowstep, preset.steps, preset.solver) == (0.12, 25, "euler")
        assert (preset.regularize_iters, preset.keep_last_k_iters, preset.lambda_kl) == (2, 1, 0.2)


def test_the_built_in_file_is_valid_against_the_schema() -> None:
    schema = json.loads((ROOT / "contract/presets.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(
        json.loads((ROOT / "contract/presets.json").read_text())
    )


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "must be an object, not []"),
        ({}, "variations: is missing"),
        ({"variations": []}, "variations: must be an object, not []"),
        ({"variations": {}, "more": 1}, "more: is unknown; allowed are $schema, defaults, var"),
        ({"variations": {"Big Band": {"prompt": "x"}}}, "variations.Big Band: a name is"),
        ({"variations": {"custom": {"prompt": "x"}}}, "variations.custom: a name is"),
        ({"variations": {"a\n": {"prompt": "x"}}}, "a name is"),
        ({"variations": {"a": "x"}}, "variations.a: must be an object, not 'x'"),
        ({"variations": {"a": {}}}, "variations.a.prompt: is missing"),
        ({"variations": {"a": {"prompt": ""}}}, "a.prompt: must be a string of 1 to 1000 char"),
        ({"variations": {"a": {"prompt": "x" * 1001}}}, "variations.a.prompt: must be"),
        ({"variations": {"a": {"prompt": "x", "step": 1}}}, "variations.a.step: is unknown; allow"),
        (
            {"variations": {"a": {"prompt": "x", "steps": 0}}},
            "a.steps: must be a whole number from 1 to 128, not 0",
        ),
        ({"variations": {"a": {"prompt": "x", "steps": True}}}, "a.steps: must be a whole"),
        (
            {"variations": {"a": {"prompt": "x", "flowstep": 1}}},
            "a.flowstep: must be a number of at least 0 and less than 1, not 1",
        ),
        ({"variations": {"a": {"prompt": "x", "flowstep": "0"}}}, "a.flowstep: must be"),
        (
            {"variations": {"a": {"prompt": "x", "solver": "rk4"}}},
            "a.solver: must be euler or midpoint, not 'rk4'",
        ),
        ({"variations": {"a": {"prompt": "x", "regularize_iters": 1}}}, "a.regularize_iters: must"),
        ({"variations": {"a": {"prompt": "x", "keep_last_k_iters": 0}}}, "keep_last_k_iters: must"),
        ({"variations": {"a": {"prompt": "x", "lambda_kl": 1.5}}}, "a.lambda_kl: must be"),
        ({"variations": {"a": {"prompt": "x", "category": "A b"}}}, "a.category: must be"),
        ({"variations": {}, "defaults": {"prompt": "x"}}, "defaults.prompt: is unknown"),
        ({"variations": {}, "defaults": {"steps": 129}}, "defaults.steps: must be"),
        ({"variations": {}, "$schema": 1}, "$schema: must be a string"),
    ],
)
def test_errors_of_a_file_name_field_value_and_what_is_allowed(
    document: object, problem: str
) -> None:
    schema = json.loads((ROOT / "contract/presets.schema.json").read_text())
    assert not jsonschema.Draft202012Validator(schema).is_valid(document)
    assert problem in (find_problem(document) or "")


def test_your_own_file_is_merged_over_the_built_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_file(
        tmp_path,
        {"kazoo": {"prompt": "kazoo"}, "celtic": {"prompt": "pipes", "steps": 10}},
        defaults={"flowstep": 0.05},
    )
    for presets in (load_presets(path), load_presets(str(path))):
        assert len(presets) == 34
        assert presets["kazoo"].category == "own"
        assert (presets["kazoo"].flowstep, presets["kazoo"].steps) == (0.05, 25)
        assert presets["kazoo"].regularize_iters == 2
        assert (presets["celtic"].prompt, presets["celtic"].steps) == ("pipes", 10)
        assert presets["chiptune"].flowstep == 0.12
    monkeypatch.setenv("MELODYFLOW_PRESETS", str(path))
    assert "kazoo" in load_presets()


def test_steps_and_regularisation_are_not_inherited_by_another_solver(tmp_path: Path) -> None:
    path = own_file(
        tmp_path,
        {"a": {"prompt": "x", "solver": "midpoint"}, "b": {"prompt": "x", "solver": "euler"}},
        defaults={"solver": "midpoint", "steps": 32},
    )
    presets = load_presets(path)
    assert (presets["a"].steps, presets["a"].regularize_iters) == (32, None)
    assert (presets["b"].steps, presets["b"].regularize_iters) == (25, None)
    path = own_file(tmp_path, {"a": {"prompt": "x", "solver": "midpoint"}})
    preset = load_presets(path)["a"]
    assert (preset.steps, preset.regularize_iters, preset.lambda_kl) == (64, None, None)


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"nowhere\.json: cannot read"):
        load_presets(tmp_path / "nowhere.json")
    broken = tmp_path / "broken.json"
    broken.write_text('{"variations": {')
    with pytest.raises(PresetError, match=r"broken\.json: not JSON: .*line 1"):
        load_presets(broken)
    with pytest.raises(PresetError, match=r"own\.json: variations\.a\.steps: .*not 999"):
        load_presets(own_file(tmp_path, {"a": {"prompt": "x", "steps": 999}}))
    with pytest.raises(PresetError, match=r"own\.json: not JSON: NaN"):
        load_presets(own_file(tmp_path, {"a": {"prompt": "x", "flowstep": float("nan")}}))


def test_a_whole_number_may_be_written_with_a_point(tmp_path: Path) -> None:
    steps = load_presets(own_file(tmp_path, {"a": {"prompt": "x", "steps": 25.0}}))["a"].steps
    assert (steps, type(steps)) == (25, int)


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("string_quartet", "strings_quartet"), ("Chip-Tune", "chiptune"), ("trap808", "trap_808")],
)
def test_an_unknown_name_suggests_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(UnknownVariation, match=nearest) as caught:
        load_presets().find(wrong)
    assert caught.value.nearest[0] == nearest


def test_an_unknown_name_with_none_near_points_to_the_list() -> None:
    with pytest.raises(UnknownVariation, match="`melodyflow variations` lists them"):
        load_presets().find("zzzzzzzz")


def test_wheel_carries_the_variations_and_no_torch(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*pip, "-w", tmp_path, ROOT / "client"], check=True, timeout=120)
    [wheel] = tmp_path.glob("melodyflow_client-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = archive.read("melodyflow_client/contract/presets.json")
        names = archive.namelist()
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt")))
    assert shipped == (ROOT / "contract/presets.json").read_bytes()
    assert "melodyflow_client/py.typed" in names
    assert b"melodyflow = melodyflow_client.cli:main" in entry_points
    assert "torch" not in metadata.split("\n\n")[0]


def test_client_imports_neither_torch_nor_the_server_nor_a_validator() -> None:
    code = (
        "import sys, melodyflow_client.cli; melodyflow_client.load_presets();"
        "print([m for m in ('torch', 'melodyflow', 'av', 'jsonschema') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
