"""The contract in one place: what is made of it is up to date, its rules hold, and it travels."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from melodyflow import contract
from melodyflow.contract import (
    DEFAULT_LIMITS,
    INPUTS,
    OPTIONS,
    PARAMETERS,
    complete,
    default_of,
    evaluations,
    exclusion,
    new_seed,
)
from melodyflow.contract.documents import documents
from melodyflow.edit import Parameters


def test_what_is_made_of_the_contract_is_up_to_date(root: Path) -> None:
    for name, text in documents().items():
        assert (root / name).read_text() == text, f"{name}: run scripts/contract"


def test_each_parameter_of_an_edit_is_an_input_or_drawn_from_one() -> None:
    assert Parameters.__dataclass_fields__.keys() <= INPUTS.keys()


def test_every_default_is_in_its_range() -> None:
    for row in PARAMETERS.values():
        for solver in ("euler", "midpoint"):
            value = default_of(row.name, solver=solver)
            if row.kind in ("whole", "number") and value is not None:
                assert row.holds(value), row.name
            if row.choices and value is not None:
                assert value in row.choices, row.name


def test_ranges_follow_the_limits_and_those_unknown_forbid_nothing() -> None:
    prompt, rate = PARAMETERS["prompt"], PARAMETERS["sample_rate"]
    assert (
        prompt.allowed({"max_prompt_characters": 20}) == "1 to 20 characters of UTF-8 are allowed"
    )
    assert not prompt.holds(21, {"max_prompt_characters": 20})
    assert prompt.holds(10**6, {})
    assert rate.bounds(DEFAULT_LIMITS) == (8000, 192000)
    assert rate.bounds({}) == (None, None)
    assert not PARAMETERS["flowstep"].holds(1.0)
    assert not PARAMETERS["flowstep"].holds(float("nan"))
    assert not PARAMETERS["regularize_iters"].holds(1)


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({"loop": True, "start": 0.0}, "loop"),
        ({"loop": False, "start": 0.0}, None),
        ({"loop": True, "start": None}, None),
        ({"strength": 0.5, "flowstep": 0.5}, "strength"),
        ({"new_take": True, "seed": 5}, "new_take"),
        ({"duration": 2.0, "audio": b"RIFF"}, "duration"),
    ],
)
def test_what_excludes_what(asked: dict[str, object], refused: str | None) -> None:
    found = exclusion(asked)
    assert (found.name if found else None) == refused
    if found:
        assert found.because


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, 75),
        ({"steps": 10, "regularize_iters": 4}, 50),
        ({"steps": 10, "regularize_iters": 0}, 20),
        ({"solver": "midpoint"}, 128),
        ({"duration": 3.0}, 64),
        ({"duration": 3.0, "solver": "euler"}, 25),
    ],
)
def test_the_number_of_evaluations(asked: dict[str, object], expected: int) -> None:
    values = complete({"prompt": "x", **asked})
    music = "duration" in values
    count = evaluations(values["steps"], values.get("regularize_iters", 0), music=music)
    assert count == expected
    if not music:
        given = {name: values[name] for name in ("solver", "steps", "regularize_iters")}
        assert Parameters(prompt="x", seed=0, **given).evaluations == expected


def test_which_seed_replaces_a_clips_last_one() -> None:
    assert new_seed(5, False) == new_seed(5, True) == 5
    assert new_seed(None, False) is None
    for drawn in (new_seed(-1, False), new_seed(None, True)):
        assert drawn is not None
        assert 0 <= drawn < contract.SEEDS


def test_no_option_is_left_out_anywhere() -> None:
    from melodyflow_client import EditOptions, GenerateOptions
    from melodyflow_gateway.wire.requests import MusicFields

    typed = EditOptions.__annotations__ | GenerateOptions.__annotations__
    assert typed.keys() == OPTIONS.keys()
    assert MusicFields.model_fields.keys() == {row.field_name for row in OPTIONS.values()}


@pytest.fixture(scope="module")
def wheels(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*pip, "-w", folder, root, root / "client"], check=True, timeout=240)
    return sorted(folder.glob("*.whl"))


def test_both_wheels_carry_it_under_names_of_their_own(wheels: list[Path]) -> None:
    files = [set(zipfile.ZipFile(wheel).namelist()) for wheel in wheels]
    assert not files[0] & files[1]
    for package, names in zip(("melodyflow", "melodyflow_client"), files, strict=True):
        modules = {"__init__.py", "limits.py", "parameters.py", "presets.json", "rules.py"}
        assert {f"{package}/contract/{module}" for module in modules} <= names
        assert f"{package}/contract/documents.py" not in names, "only in the checkout"


@pytest.mark.parametrize("packages", [(0,), (1,), (0, 1)], ids=["server", "client", "both"])
def test_the_wheels_work_alone_and_together(
    wheels: list[Path], packages: tuple[int, ...], tmp_path: Path
) -> None:
    for number in packages:
        zipfile.ZipFile(wheels[number]).extractall(tmp_path)
    code = {
        0: "from melodyflow.contract import default_of as a; "
        "from melodyflow.embedded.container import main",
        1: "from melodyflow_client.contract import default_of as b; "
        "import melodyflow_client as c; assert len(c.load_presets()) == 33",
    }
    lines = [f"import sys; sys.path.insert(0, {str(tmp_path)!r})", *(code[n] for n in packages)]
    found = "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('melodyflow')))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", "\n".join([*lines, found])],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert all(file.startswith(str(tmp_path)) for file in done.stdout.split())
