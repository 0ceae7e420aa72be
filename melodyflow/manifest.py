"""A converted checkpoint's manifest. Reading it needs no PyTorch, whose import takes seconds, so an
unusable folder is reported at once.

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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from melodyflow.errors import CheckpointError

FORMAT = 1
CONFIG, CODEC, FLOW, T5 = "config.json", "codec.safetensors", "flow.safetensors", "t5"


@dataclass(frozen=True)
class CodecConfig:
    """A codec's sizes, from its checkpoint."""

    sample_rate: int
    channels: int
    latent_dim: int
    n_filters: int
    ratios: tuple[int, ...]  # of the decoder; the encoder uses them in reverse
    n_residual_layers: int = 1
    kernel_size: int = 7
    residual_kernel_size: int = 3
    last_kernel_size: int = 7
    dilation_base: int = 2
    compress: int = 2
    lstm: int = 2

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.ratios)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    def frames(self, samples: int) -> int:
        """The number of frames for `samples` samples; the last one may be partly filled."""
        return -(-samples // self.hop)


@dataclass(frozen=True)
class FlowConfig:
    """A velocity network's sizes, from its checkpoint."""

    dim: int
    latent_dim: int
    num_heads: int
    num_layers: int
    hidden_scale: int
    time_features: int  # sines and cosines of the time embedding
    text_features: int  # width of the text encoder's output
    segment_duration: float  # seconds of the window the network was trained on
    guidance: float  # default classifier-free guidance

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
    """Reads a converted checkpoint's configuration and checks its files: they must exist, have the
    recorded size and, if they hold tensors, a readable header. With `verify`, it also checks every
    file's sha256. Raises CheckpointError."""
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
            f"{folder / CONFIG}: not from a converted checkpoint ({error!r})"
        ) from None
    for name in (CODEC, FLOW):
        stored_shapes(folder / name)
    return checkpoint


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the tensors in a safetensors file, from its header."""
    try:
        # "pt" would import PyTorch; the framework doesn't matter for the header.
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None


def _check_access(path: Path, access: int) -> None:
    """Raises CheckpointError for what this user may not use: libraries call it missing."""
    with suppress(PermissionError):  # of a folder above it
        if not path.exists() or os.access(path, access):
            return
    raise CheckpointError(
        f"{path}: not readable by uid {os.geteuid()}; run chmod -R a+rX on the checkpoint's "
        "folder, and chmod a+x on those above it"
    )


def _read_config(folder: Path) -> dict[str, Any]:
    _check_access(folder, os.F_OK)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    path = folder / CONFIG
    _check_access(path, os.R_OK)
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
            f"{path}: format {found!r}; this version needs format {FORMAT}: "
            "convert the weights again"
        )
    return cast(dict[str, Any], config)


def _codec_config(values: dict[str, Any]) -> CodecConfig:
    return CodecConfig(**{**values, "ratios": tuple(values["ratios"])})


def _check_file(path: Path, facts: dict[str, Any], verify: bool) -> None:
    _check_access(path, os.R_OK)
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; convert the weights again")
    size = path.stat().st_size
    if size != facts["bytes"]:
        raise CheckpointError(
            f"{path}: {size} bytes, expected {facts['bytes']}; the file is damaged: "
            "convert the weights again"
        )
    if verify and file_sha256(path) != facts["sha256"]:
        raise CheckpointError(
            f"{path}: sha256 mismatch, expected {facts['sha256']}; convert the weights again"
        )
