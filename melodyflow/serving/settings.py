"""The model's settings: `parameters` of config.pbtxt, overridden by environment variables
MELODYFLOW_<NAME>."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from melodyflow.contract import IN_FORCE, MOST_SECONDS, Limits
from melodyflow.errors import SettingsError

PREFIX = "MELODYFLOW_"
NOT_NEGATIVE = (
    "threads",
    "max_frames",
    "max_tokens",
    "cache_bytes",
    "drain_seconds",
    "max_seconds",
)


@dataclass(frozen=True)
class Settings(Limits):
    """A server's settings, including its limits. config.pbtxt uses the fields' names."""

    checkpoint: str = ""  # folder of a converted checkpoint
    verify: bool = False  # check the files' sha256 when loading
    device: str = "auto"  # auto, cpu, cuda or cuda:N; auto: the instance's GPU, or the first one
    precision: str = "auto"  # of the velocity network: auto, fp32 or bf16; auto is bf16 on a GPU
    threads: int = 0  # CPU threads of the network; 0: all cores, shared by the model's instances
    slots: int = 8  # edits in flight
    max_frames: int = 0  # latent frames in flight; 0: the longest clip plus one window per slot
    max_tokens: int = 0  # latent frames per network call; 0: 1024 on a CPU, 12288 on a GPU
    cache_bytes: int = 256 * 2**20  # for inversions, posteriors and texts that edits share
    drain_seconds: float = 600.0  # how long edits in flight may run on when the model is unloaded

    def __post_init__(self) -> None:
        if not self.checkpoint:
            raise SettingsError(
                "checkpoint: not set; give a converted checkpoint's folder in config.pbtxt "
                f"or {PREFIX}CHECKPOINT"
            )
        if self.precision not in ("auto", "fp32", "bf16"):
            raise SettingsError(f"precision: {self.precision!r}; must be auto, fp32 or bf16")
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", self.device):
            raise SettingsError(f"device: {self.device!r}; must be auto, cpu, cuda or cuda:N")
        for name in (
            "slots",
            "max_audio_bytes",
            "max_channels",
            "max_prompt_characters",
        ):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: {getattr(self, name)}; must be at least 1")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name}: {getattr(self, name)}; must be 0 or more")
        if not self.min_seconds > 0:
            raise SettingsError(f"min_seconds: {self.min_seconds}; must be more than 0")
        for name in ("drain_seconds", "min_seconds", "max_seconds"):
            if getattr(self, name) > MOST_SECONDS:
                raise SettingsError(
                    f"{name}: {getattr(self, name)}; must be at most {MOST_SECONDS:g}"
                )


def read_settings(config: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Reads settings from Triton's model configuration (a dict) and the environment, which wins.

    An empty value counts as not set. Raises SettingsError.
    """
    given = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
    given.pop(IN_FORCE, None)
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    unknown = given.keys() - fields.keys()
    if unknown:
        raise SettingsError(f"{min(unknown)}: no such setting; must be one of {', '.join(fields)}")
    for name in fields:
        given[name] = environment.get(PREFIX + name.upper()) or given.get(name, "")
    values = {
        name: _parse(name, text, type(fields[name].default)) for name, text in given.items() if text
    }
    return Settings(**values)


def _parse(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise SettingsError(f"{name}: {text!r}; must be true or false")
        return text.lower() in ("true", "1")
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise SettingsError(f"{name}: {text!r}; must be {wanted}") from None
