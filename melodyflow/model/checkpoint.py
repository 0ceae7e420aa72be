"""Converted checkpoints: a folder of config.json, safetensors and the text encoder. The service
reads nothing else.

config.json          sizes, name, licence, sha256 of the sources and of the files below
codec.safetensors    the codec, weight norm folded flow.safetensors     the velocity network, latent
statistics and the text projection t5/                  the text encoder: config.json,
model.safetensors, tokenizer files
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from melodyflow.model import MelodyFlow
from melodyflow.model.codec import Codec, CodecConfig
from melodyflow.model.text import TextEncoder, load_t5
from melodyflow.model.transformer import FlowConfig, FlowModel

FORMAT = 1
CONFIG, CODEC, FLOW, T5 = "config.json", "codec.safetensors", "flow.safetensors", "t5"
TEXT_PROJECTION = "condition_provider.conditioners.description.output_proj."
Precision = Literal["fp32", "bf16"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True)
class Checkpoint:
    """A converted checkpoint whose configuration and tensor headers have been checked."""

    folder: Path
    name: str
    licence: str
    sha256: str  # of config.json, which names the hash of every other file
    codec: CodecConfig
    flow: FlowConfig


def open_checkpoint(folder: str | os.PathLike[str], *, verify: bool = False) -> Checkpoint:
    """Reads and checks a converted checkpoint without loading its weights: sizes of the files,
    names and shapes of the tensors; with `verify` also the sha256 of every file. Raises
    CheckpointError."""
    folder = Path(folder)
    config = _read_config(folder)
    try:
        codec, flow = _codec_config(config["codec"]), FlowConfig(**config["flow"])
        checkpoint = Checkpoint(
            folder=folder,
            name=str(config["name"]),
            licence=str(config["licence"]),
            sha256=file_sha256(folder / CONFIG),
            codec=codec,
            flow=flow,
        )
        files: dict[str, dict[str, Any]] = config["files"]
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: not a converted checkpoint's ({error!r})"
        ) from None
    for name, facts in files.items():
        _check_file(folder / name, facts, verify)
    check_shapes(folder / CODEC, stored_shapes(folder / CODEC), expected_shapes(CODEC, codec, flow))
    check_shapes(folder / FLOW, stored_shapes(folder / FLOW), expected_shapes(FLOW, codec, flow))
    return checkpoint


def load(
    checkpoint: Checkpoint, *, device: str = "cpu", precision: Precision = "fp32"
) -> MelodyFlow:
    """The checkpoint's model, ready to run. `precision` is the velocity network's; codec and text
    stay fp32."""
    with torch.device("meta"):
        codec, flow = Codec(checkpoint.codec), FlowModel(checkpoint.flow)
    codec.load_state_dict(_load_fp32(checkpoint.folder / CODEC), assign=True)
    tensors = _load_fp32(checkpoint.folder / FLOW)
    projection = {
        name.removeprefix(TEXT_PROJECTION): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(TEXT_PROJECTION)
    }
    flow.load_state_dict(tensors, assign=True)
    t5, tokenizer = _load_t5(checkpoint)
    with torch.device("meta"):
        text = TextEncoder(t5, tokenizer, checkpoint.flow.dim)
    text.output_proj.load_state_dict(projection, assign=True)
    if precision == "bf16":
        # Statistics and rotary frequencies are buffers and stay as stored.
        for parameter in flow.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
    parts: tuple[nn.Module, ...] = (codec, text, flow)
    for part in parts:
        part.to(device).eval().requires_grad_(False)
    return MelodyFlow(codec=codec, text=text, flow=flow)


def expected_shapes(file: str, codec: CodecConfig, flow: FlowConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a converted file of these sizes holds."""
    with torch.device("meta"):
        module: nn.Module = Codec(codec) if file == CODEC else FlowModel(flow)
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if file == FLOW:
        shapes[TEXT_PROJECTION + "weight"] = (flow.dim, flow.text_features)
        shapes[TEXT_PROJECTION + "bias"] = (flow.dim,)
    return shapes


def check_shapes(
    file: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises CheckpointError that names the missing, extra and misshapen tensors of a file."""
    faults = [f"{name} is missing" for name in expected.keys() - found.keys()]
    faults += [f"{name} is unknown" for name in found.keys() - expected.keys()]
    faults += [
        f"{name} is {list(found[name])} instead of {list(expected[name])}"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    if faults:
        shown = "; ".join(sorted(faults)[:5])
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise CheckpointError(f"{file}: its tensors do not fit its configuration: {shown}{more}")


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file, read from its header."""
    try:
        with safe_open(path, framework="pt") as file:
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


def _load_fp32(path: Path) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in load_file(path).items()}


def _load_t5(checkpoint: Checkpoint) -> tuple[nn.Module, Any]:
    folder = checkpoint.folder / T5
    try:
        t5, tokenizer = load_t5(folder)
    except Exception as error:  # transformers raises whatever its parts raise
        raise CheckpointError(f"{folder}: not a T5 encoder with its tokenizer ({error})") from error
    width = cast(Any, t5).config.d_model
    if width != checkpoint.flow.text_features:
        raise CheckpointError(
            f"{folder}: d_model {width}, "
            f"but the text projection takes {checkpoint.flow.text_features}"
        )
    return t5, tokenizer
