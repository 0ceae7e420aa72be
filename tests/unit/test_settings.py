"""Settings: config.pbtxt's values, the environment's over them, wrong ones by name."""

import re
from pathlib import Path

import pytest

from melodyflow.errors import SettingsError
from melodyflow.serving.settings import Settings, read_settings


def config(**values: str) -> dict[str, object]:
    return {"parameters": {name: {"string_value": value} for name, value in values.items()}}


def test_the_environment_wins_and_empty_is_no_value() -> None:
    settings = read_settings(
        config(checkpoint="/a", slots="3", threads=""),
        {"MELODYFLOW_CHECKPOINT": "/b", "MELODYFLOW_SLOTS": "", "MELODYFLOW_VERIFY": "true"},
    )
    assert (settings.checkpoint, settings.slots, settings.verify) == ("/b", 3, True)
    assert settings.threads == Settings("/b").threads


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slots", "0"),
        ("slots", "many"),
        ("precision", "fp8"),
        ("device", "tpu"),
        ("verify", "maybe"),
        ("min_seconds", "-1"),
        ("min_seconds", "inf"),
        ("max_seconds", "inf"),
        ("max_seconds", "nan"),
        ("max_seconds", "1e10"),
        ("drain_seconds", "inf"),
        ("drain_seconds", "nan"),
        ("drain_seconds", "-1"),
        ("speed", "9"),
    ],
)
def test_wrong_settings_are_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: "):
        read_settings(config(checkpoint="/a", **{name: value}), {})


def test_a_missing_checkpoint_is_refused_with_the_remedy() -> None:
    with pytest.raises(SettingsError, match="MELODYFLOW_CHECKPOINT"):
        read_settings(config(), {})


def test_config_pbtxt_states_every_setting_with_its_default(root: Path) -> None:
    text = (root / "model_repository/melodyflow/config.pbtxt").read_text()
    stated = dict(re.findall(r'key: "(\w+)" +value \{ string_value: "([^"]*)"', text))
    read = read_settings(config(**stated), {"MELODYFLOW_CHECKPOINT": "x"})
    assert read == Settings(checkpoint="x")
    assert stated.keys() == Settings.__dataclass_fields__.keys()
