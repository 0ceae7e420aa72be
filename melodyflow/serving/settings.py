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
    """Settings of one server, beside its limits. Their names in config.pbtxt are the fields'."""

    checkpoint: str = ""  # folder of a converted checkpoint
    verify: bool = False  # check the files' sha256 at load
    device: str = "auto"  # auto, cpu, cuda or cuda:N; auto: the instance's GPU, or the first one
    precision: str = "auto"  # of the velocity network: auto, fp32 or bf16; auto is bf16 on a GPU
    threads: int = 0  # CPU threads of the network; 0: the cores, shared by the model's instances
    slots: int = 8  # edits in flight
    max_frames: int = 0  # latent frames in flight; 0: of the longest clip and a window a slot
    max_tokens: int = 0  # latent frames of one network call; 0: 1024 on a CPU, 12288 on a GPU
    cache_bytes: int = 256 * 2**20  # of inversions, posteriors and texts that edits share
    drain_seconds: float = 600.0  # how long edits in flight may go on when the model is unloaded

    def __post_init__(self) -> None:
        if not self.checkpoint:
            raise SettingsError(
                "checkpoint: not set; name a converted checkpoint's folder in config.pbtxt "
                f"or {PREFIX}CHECKPOINT"
            )
        if self.precision not in ("auto", "fp32", "bf16"):
            raise SettingsError(f"precision: {self.precision!r}; auto, fp32 or bf16")
        if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", self.device):
            raise SettingsError(f"device: {self.device!r}; auto, cpu, cuda or cuda:N")
        for name in (
            "slots",
            "max_audio_bytes",
            "max_channels",
            "max_prompt_characters",
        ):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: {getattr(self, name)}; at least 1")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name}: {getattr(self, name)}; 0 or more")
        if not self.min_seconds > 0:
            raise SettingsError(f"min_seconds: {self.min_seconds}; more than 0")
        for name in ("drain_seconds", "min_seconds", "max_seconds"):
            if getattr(self, name) > MOST_SECONDS:
                raise SettingsError(f"{name}: {getattr(self, name)}; at most {MOST_SECONDS:g}")


def read_settings(config: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Settings from a model configuration (Triton's, as a dict) and the environment, which wins.

    An empty value is no value. Raises SettingsError.
    """
    given = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
    given.pop(IN_FORCE, None)
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    unknown = given.keys() - fields.keys()
    if unknown:
        raise SettingsError(f"{min(unknown)}: no such setting; there are {', '.join(fields)}")
    for name in fields:
        given[name] = environment.get(PREFIX + name.upper()) or given.get(name, "")
    values = {
        name: _parse(name, text, type(fields[name].default)) for name, text in given.items() if text
    }
    return Settings(**values)


def _parse(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise SettingsError(f"{name}: {text!r}; true or false")
        return text.lower() in ("true", "1")
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise SettingsError(f"{name}: {text!r}; {wanted}") from None
