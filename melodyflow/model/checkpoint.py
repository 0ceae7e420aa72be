"""Loads a converted checkpoint (its files: `melodyflow.manifest`)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from melodyflow.errors import CheckpointError
from melodyflow.manifest import (
    CODEC,
    CONFIG,
    FLOW,
    FORMAT,
    T5,
    Checkpoint,
    CodecConfig,
    FlowConfig,
    file_sha256,
    read_manifest,
    stored_shapes,
)
from melodyflow.model import MelodyFlow
from melodyflow.model.codec import Codec
from melodyflow.model.linear import Packable, can_pack
from melodyflow.model.t5 import T5Encoder
from melodyflow.model.text import TextEncoder, load_t5
from melodyflow.model.tokenizer import Tokenize
from melodyflow.model.transformer import FlowModel

__all__ = [
    "CODEC",
    "CONFIG",
    "FLOW",
    "FORMAT",
    "T5",
    "TEXT_PROJECTION",
    "Checkpoint",
    "CheckpointError",
    "Precision",
    "check_shapes",
    "expected_shapes",
    "file_sha256",
    "load",
    "open_checkpoint",
    "stored_shapes",
]

TEXT_PROJECTION = "condition_provider.conditioners.description.output_proj."
Precision = Literal["fp32", "bf16"]


def open_checkpoint(folder: str | os.PathLike[str], *, verify: bool = False) -> Checkpoint:
    """Reads and checks a converted checkpoint without loading its weights: everything
    `read_manifest` checks, and that the tensors' names and shapes match the configuration. Raises
    CheckpointError."""
    checkpoint = read_manifest(folder, verify=verify)
    for name in (CODEC, FLOW):
        file = checkpoint.folder / name
        expected = expected_shapes(name, checkpoint.codec, checkpoint.flow)
        check_shapes(file, stored_shapes(file), expected)
    return checkpoint


def load(
    checkpoint: Checkpoint,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    pack: bool = True,
) -> MelodyFlow:
    """Loads the checkpoint's model. `precision` applies to the velocity network; codec and text
    encoder stay fp32. `pack`: on a CPU, lay out the network's weights for its kernels (see
    `linear`)."""
    # By default, PyTorch's convolutions on a GPU round to TF32; the codec needs fp32.
    torch.backends.cudnn.allow_tf32 = False
    with torch.device("meta"):
        codec, flow = Codec(checkpoint.codec), FlowModel(checkpoint.flow)
    codec.load_state_dict(_load_fp32(checkpoint.folder / CODEC), assign=True)
    weights = checkpoint.folder / FLOW
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    _fill(flow, weights, device, dtype, pack=pack and device == "cpu" and can_pack(dtype))
    t5, tokenize = _load_t5(checkpoint)
    with torch.device("meta"):
        text = TextEncoder(t5, tokenize, checkpoint.flow.dim)
    _fill(text.output_proj, weights, device, torch.float32, prefix=TEXT_PROJECTION.rstrip("."))
    parts: tuple[nn.Module, ...] = (codec, text, flow)
    for part in parts:
        part.to(device).eval().requires_grad_(False)
    return MelodyFlow(codec=codec, text=text, flow=flow)


def _fill(
    module: nn.Module,
    path: Path,
    device: str,
    dtype: torch.dtype,
    *,
    prefix: str = "",
    pack: bool = False,
) -> None:
    """Loads a module from a file, with its parameters as `dtype`, optionally packing its weights.

    Loads part by part, so that the weights are never in memory twice: data read from a file stays
    in memory until the file is closed. Statistics and rotary frequencies are buffers and keep their
    type.
    """
    for name, part in module.named_modules(prefix=prefix):
        packs = pack and isinstance(part, Packable)
        parameters = dict(part.named_parameters(recurse=False))
        buffers = dict(part.named_buffers(recurse=False))
        if not parameters and not buffers:
            continue
        with safe_open(path, framework="pt") as file:
            stored = {
                own: file.get_tensor(f"{name}.{own}" if name else own)
                for own in (*parameters, *buffers)
            }
        for own in parameters:
            value = stored.pop(own).to(device, dtype, copy=not packs)
            setattr(part, own, nn.Parameter(value, requires_grad=False))
        for own in buffers:
            setattr(part, own, stored.pop(own).to(device, copy=True))
        if packs:
            part.pack()


def expected_shapes(file: str, codec: CodecConfig, flow: FlowConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the tensors in a converted file with these sizes."""
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
    """Raises CheckpointError naming the tensors that are missing, unexpected or of the wrong
    shape."""
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
        raise CheckpointError(f"{file}: the tensors don't match the configuration: {shown}{more}")


def _load_fp32(path: Path) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in load_file(path).items()}


def _load_t5(checkpoint: Checkpoint) -> tuple[T5Encoder, Tokenize]:
    folder = checkpoint.folder / T5
    try:
        t5, tokenize = load_t5(folder)
    except Exception as error:  # tokenizers raises plain Exceptions
        raise CheckpointError(f"{folder}: not a T5 encoder with its tokenizer ({error})") from error
    width = t5.config.d_model
    if width != checkpoint.flow.text_features:
        raise CheckpointError(
            f"{folder}: d_model {width}, "
            f"but the text projection needs {checkpoint.flow.text_features}"
        )
    return t5, tokenize
