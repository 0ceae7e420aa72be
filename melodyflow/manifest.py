"""What a converted checkpoint says about itself. Reading it needs no PyTorch, so whether a folder
can be served is known in a fraction of the second that importing PyTorch takes.

config.json          sizes, name, licence, sha256 of the sources and of the files below
codec.safetensors    the codec, weight norm folded
flow.safetensors     the velocity network, latent statistics and the text projection
t5/                  the text encoder: config.json, model.safetensors, tokenizer files

The service reads nothing else. `melodyflow.model.checkpoint` loads the weights.
"""

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from melodyflow.errors import CheckpointError

FORMAT = 1
CONFIG, CODEC, FLOW, T5 = "config.json", "codec.safetensors", "flow.safetensors", "t5"


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of a codec, as its checkpoint states them."""

    sample_rate: int
    channels: int
    latent_dim: int
    n_filters: int
    ratios: tuple[int, ...]  # of the decoder; the encoder goes through them backwards
    n_residual_layers: int = 1
    kernel_size: int = 7
    residual_kernel_size: int = 3
    last_kernel_size: int = 7
    dilation_base: int = 2
    compress: int = 2
    lstm: int = 2

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop

    def frames(self, samples: int) -> int:
        """Frames that hold `samples` samples: the last one may be partly filled."""
        return -(-samples // self.hop)


@dataclass(frozen=True)
class FlowConfig:
    """Sizes of a velocity network, as its checkpoint states them."""

    dim: int
    latent_dim: int
    num_heads: int
    num_layers: int
    hidden_scale: int
    time_features: int  # sines and cosines of the time embedding
    text_features: int  # width of the text encoder's output
    segment_duration: float  # seconds of the window the network was trained on
    guidance: float  # classifier-free guidance where a request names none

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def skips(self) -> int:
        """Skip projections between the first and the second half of the layers."""
        return (self.num_layers - 1) // 2


@dataclass(frozen=True)
class Checkpoint:
    """A converted checkpoint whose configuration and files have been checked."""

    folder: Path
    name: str
    licence: str
    sha256: str  # of config.json, which names the hash of every other file
    codec: CodecConfig
    flow: FlowConfig


def read_manifest(folder: str | os.PathLike[str], *, verify: bool = False) -> Checkpoint:
    """Reads a converted checkpoint's configuration and checks its files: that all are there, have
    the recorded size and, if they hold tensors, a readable header; with `verify` also the sha256 of
    every file. Raises CheckpointError."""
    folder = Path(folder)
    config = _read_config(folder)
    try:
        checkpoint = Checkpoint(
            folder=folder,
            name=str(config["name"]),
            licence=str(config["licence"]),
            sha256=file_sha256(folder / CONFIG),
            codec=_codec_config(config["codec"]),
            flow=FlowConfig(**config["flow"]),
        )
        files: dict[str, dict[str, Any]] = config["files"]
        for name, facts in files.items():
            _check_file(folder / name, facts, verify)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: not a converted checkpoint's ({error!r})"
        ) from None
    for name in (CODEC, FLOW):
        stored_shapes(folder / name)
    return checkpoint


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file, read from its header."""
    try:
        # "pt" would import PyTorch; the framework makes no difference to the header.
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    path = folder / CONFIG
    if not path.is_file():
        remedy = (
            f"run scripts/convert_weights {folder} OUT and use OUT"
            if (folder / "state_dict.bin").exists()
            else "a converted checkpoint has a config.json"
        )
        raise CheckpointError(f"{folder}: not a converted checkpoint: {remedy}")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise CheckpointError(
            f"{path}: format {found!r}; this version reads format {FORMAT}: "
            "convert the weights again"
        )
    return cast(dict[str, Any], config)


def _codec_config(values: dict[str, Any]) -> CodecConfig:
    return CodecConfig(**{**values, "ratios": tuple(values["ratios"])})


def _check_file(path: Path, facts: dict[str, Any], verify: bool) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; convert the weights again")
    size = path.stat().st_size
    if size != facts["bytes"]:
        raise CheckpointError(
            f"{path}: {size} bytes instead of {facts['bytes']}; the copy is damaged: "
            "convert the weights again"
        )
    if verify and file_sha256(path) != facts["sha256"]:
        raise CheckpointError(f"{path}: its sha256 is not the recorded {facts['sha256']}")
