"""The settings in force, in the configuration that Triton loads."""

import re
from pathlib import Path

import pytest

from melodyflow.contract import DEFAULT_LIMITS, told
from melodyflow.embedded.repository import in_force, write_repository
from melodyflow.serving.settings import read_settings


def stated(config: str) -> dict[str, str]:
    return dict(re.findall(r'key: "(\w+)" +value \{ string_value: "([^"]*)"', config))


@pytest.fixture
def config(root: Path) -> str:
    return (root / "model_repository/melodyflow/config.pbtxt").read_text()


def test_what_the_environment_overrides_is_written_and_the_rest_stays(config: str) -> None:
    environment = {
        "MELODYFLOW_CHECKPOINT": "/weights",
        "MELODYFLOW_MAX_SECONDS": "900",
        "MELODYFLOW_SLOTS": "",
        "MELODYFLOW_RESTARTS": "3",  # no setting
    }
    values = stated(in_force(config, environment))
    assert values == {**stated(config), "max_seconds": "900", "in_force": "true"}
    parameters = {"parameters": {name: {"string_value": values[name]} for name in values}}
    assert read_settings(parameters, environment).max_seconds == 900


def test_the_checkpoints_path_is_not_told(config: str) -> None:
    assert "/weights" not in in_force(config, {"MELODYFLOW_CHECKPOINT": "/weights"})


def test_a_value_cannot_break_out_of_its_quotes(config: str) -> None:
    written = in_force(config, {"MELODYFLOW_DEVICE": 'a"b\\c\nd'})
    assert r'"device"                value { string_value: "a\"b\\c\nd" }' in written
    assert 'string_value: "other"' in in_force(written, {"MELODYFLOW_DEVICE": "other"})


def test_another_models_configuration_stays_as_it_is() -> None:
    assert in_force('name: "bare"', {"MELODYFLOW_SLOTS": "3"}) == 'name: "bare"'


def test_the_repository_itself_is_only_read(root: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    model = repository / "melodyflow"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").touch()
    (model / "config.pbtxt").write_text('parameters { key: "slots" value { string_value: "8" } }')
    for folder in (model, repository):
        folder.chmod(0o555)
    made = write_repository(repository, tmp_path / "copy", {"MELODYFLOW_SLOTS": "3"})
    assert stated((made / "melodyflow/config.pbtxt").read_text())["slots"] == "3"
    assert (made / "melodyflow/1/model.py").exists()
    assert stated((model / "config.pbtxt").read_text()) == {"slots": "8"}
    for folder in (repository, model):
        folder.chmod(0o755)


def test_limits_are_told_by_a_configuration_that_is_in_force(config: str) -> None:
    assert told(stated(config)) == {}, "what the environment overrides is not in it"
    running = stated(in_force(config, {"MELODYFLOW_SLOTS": "3"}))
    assert told(running) == DEFAULT_LIMITS
    assert "max_seconds" not in told({**running, "max_seconds": "0"}), "the checkpoint's window"
    assert told({**running, "min_seconds": "0.5"})["min_seconds"] == 0.5
    assert "max_channels" not in told({**running, "max_channels": "many"})
