"""Converts the released files (docs/model.md, "The files"). This is the only place that reads a
pickle, once, with an explicit allow-list of what it may contain."""

import argparse
import collections
import json
import re
import shutil
import sys
import tempfile
import typing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from melodyflow.errors import CheckpointError
from melodyflow.model.checkpoint import (
    CODEC,
    CONFIG,
    FLOW,
    FORMAT,
    T5,
    TEXT_PROJECTION,
    check_shapes,
    expected_shapes,
    file_sha256,
)
from melodyflow.model.codec import CodecConfig
from melodyflow.model.transformer import FlowConfig

FLOW_SOURCE, CODEC_SOURCE = "state_dict.bin", "compression_state_dict.bin"
RELEASED_CODEC = "c075ee7c5b13d50937d1e4f197f3e940c3f3b74207857cb0e1e17891010fdc6d"
RELEASED_LICENCE = "CC-BY-NC-4.0"
DEFAULT_GUIDANCE = 4.0  # the reference's default if transformer_lm has no cfg_coef
ROPE_COPY = ".self_attn.rope.frequencies"  # one in each layer, all equal
WEIGHT_NORM = ".parametrizations.weight.original"


def convert(
    source: Path,
    out: Path,
    *,
    t5: Path | None = None,
    name: str | None = None,
    licence: str | None = None,
) -> None:
    """Converts `source`'s two .bin files and a T5 folder (default: `source/t5`) into the folder
    `out`.

    `licence` defaults to the released weights' licence for the released codec, else "unknown".
    `out` is created complete or not at all. Raises CheckpointError.
    """
    t5 = t5 or source / T5
    for path in (source / FLOW_SOURCE, source / CODEC_SOURCE, t5 / "config.json"):
        if not path.is_file():
            raise CheckpointError(f"{path}: missing")
    if out.exists():
        raise CheckpointError(f"{out}: already exists; choose another folder or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
        made = Path(work) / out.name
        made.mkdir()
        codec = _convert_codec(source / CODEC_SOURCE, made / CODEC)
        flow = _convert_flow(source / FLOW_SOURCE, made / FLOW)
        if flow.latent_dim != codec.latent_dim:
            raise CheckpointError(
                f"{source}: the network has {flow.latent_dim} latent channels, "
                f"the codec {codec.latent_dim}"
            )
        _copy_t5(t5, made / T5)
        sources = {file: file_sha256(source / file) for file in (FLOW_SOURCE, CODEC_SOURCE)}
        sources["t5/model.safetensors"] = file_sha256(t5 / "model.safetensors")
        if licence is None:
            released = sources[CODEC_SOURCE] == RELEASED_CODEC
            licence = RELEASED_LICENCE if released else "unknown"
        describe(made, name or source.resolve().name, licence, codec, flow, sources)
        made.rename(out)


def describe(
    folder: Path,
    name: str,
    licence: str,
    codec: CodecConfig,
    flow: FlowConfig,
    sources: dict[str, str] | None = None,
) -> None:
    """Writes the config.json for a folder that has all other files of a converted checkpoint.
    `sources`: sha256 of the files it was converted from."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [path for path in files if path != folder / CONFIG]
    config = {
        "format": FORMAT,
        "name": name,
        "licence": licence,
        "codec": asdict(codec),
        "flow": asdict(flow),
        "sources": sources or {},
        "files": {
            path.relative_to(folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": file_sha256(path),
            }
            for path in files
        },
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    # safetensors writes for the owner alone; the server may be another user.
    for path in files:
        path.chmod((folder / CONFIG).stat().st_mode & 0o777)


def census(path: Path) -> tuple[int, int]:
    """Number of tensors and of values in a released .bin file.

    The layers' copies of the rotary table are among the tensors, but their values count once.
    """
    tensors = read_released(path)[0]
    return len(tensors), sum(
        tensor.numel() for name, tensor in tensors.items() if not name.endswith(ROPE_COPY)
    )


def read_released(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads the tensors and configuration of a released .bin file. Raises CheckpointError for any
    other layout."""
    from omegaconf import DictConfig, ListConfig, OmegaConf
    from omegaconf.base import ContainerMetadata, Metadata
    from omegaconf.errors import OmegaConfBaseException
    from omegaconf.nodes import AnyNode

    allowed: list[Any] = [DictConfig, ListConfig, AnyNode, Metadata, ContainerMetadata]
    allowed += [collections.defaultdict, dict, list, int, typing.Any]
    try:
        with torch.serialization.safe_globals(allowed):
            package = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if package.get("pretrained"):
            raise CheckpointError(f"{path}: refers to another model, {package['pretrained']!r}")
        tensors, xp = package["best_state"], package["xp.cfg"]
        config = {
            # Section by section: other sections may refer to the training environment.
            str(key): OmegaConf.to_container(xp[key], resolve=True)
            for key in (
                "seanet",
                "encodec",
                "transformer_lm",
                "dataset",
                "interleave_stereo_codebooks",
            )
            if isinstance(xp.get(key), DictConfig)
        }
    except CheckpointError:
        raise
    except (OSError, OmegaConfBaseException) as error:
        raise CheckpointError(f"{path}: can't be read ({error})") from error
    except Exception as error:  # whatever a broken or hostile pickle makes torch raise
        raise CheckpointError(f"{path}: not a released MelodyFlow file ({error})") from error
    return tensors, config


def _convert_codec(source: Path, out: Path) -> CodecConfig:
    tensors, sections = read_released(source)
    config = _codec_config(source, sections)
    converted = {}
    for name, tensor in tensors.items():
        plain = re.sub(r"\.(conv|convtr)\.\1\.", r".\1.", name)
        if name.endswith(WEIGHT_NORM + "0"):
            direction = tensors[name[:-1] + "1"].float()
            # Weight norm: magnitude times direction; the norm is over all dimensions but the first.
            length = direction.flatten(1).norm(dim=1)[:, None, None]
            converted[plain.replace(WEIGHT_NORM + "0", ".weight")] = (
                tensor.float() * direction / length
            )
        elif not name.endswith(WEIGHT_NORM + "1"):
            converted[plain] = tensor.float()
    _save(source, out, converted, expected_shapes(CODEC, config, _NO_FLOW))
    return config


def _convert_flow(source: Path, out: Path) -> FlowConfig:
    tensors, sections = read_released(source)
    config = _flow_config(source, sections, tensors)
    rope = tensors["transformer.rope.frequencies"]
    converted = {}
    for name, tensor in tensors.items():
        if name.endswith(ROPE_COPY):
            if not torch.equal(tensor, rope):
                raise CheckpointError(f"{source}: {name} differs from transformer.rope.frequencies")
            continue  # one table serves all layers
        converted[name] = tensor.float()
    _save(source, out, converted, expected_shapes(FLOW, _NO_CODEC, config))
    return config


# `expected_shapes` only reads one of the two configurations.
_NO_CODEC: Any = None
_NO_FLOW: Any = None


def _save(
    source: Path, out: Path, tensors: dict[str, Tensor], expected: dict[str, tuple[int, ...]]
) -> None:
    check_shapes(source, {name: tuple(t.shape) for name, t in tensors.items()}, expected)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out)


def _codec_config(source: Path, sections: dict[str, Any]) -> CodecConfig:
    try:
        encodec, seanet = sections["encodec"], sections["seanet"]
        encoder = {**seanet, **seanet.get("encoder", {})}
        decoder = {**seanet, **seanet.get("decoder", {})}
        _require(source, "encodec.autoencoder", encodec["autoencoder"], "seanet")
        _require(source, "encodec.quantizer", encodec["quantizer"], "no_quant")
        _require(source, "encodec.renormalize", encodec.get("renormalize", False), False)
        _require(source, "encoder dimension", encoder["dimension"], 2 * decoder["dimension"])
        _require(source, "decoder.final_activation", decoder.get("final_activation"), None)
        for key, value in _CODEC_REQUIRED.items():
            _require(source, f"seanet.{key}", seanet.get(key, value), value)
        return CodecConfig(
            sample_rate=int(encodec["sample_rate"]),
            channels=int(encodec["channels"]),
            latent_dim=int(decoder["dimension"]),
            n_filters=int(seanet["n_filters"]),
            ratios=tuple(int(ratio) for ratio in seanet["ratios"]),
            **{key: int(seanet[key]) for key in _CODEC_SIZES if key in seanet},
        )
    except KeyError as error:
        raise CheckpointError(f"{source}: the configuration has no {error}") from None


def _flow_config(source: Path, sections: dict[str, Any], tensors: dict[str, Tensor]) -> FlowConfig:
    try:
        network = sections["transformer_lm"]
        for key, value in _FLOW_REQUIRED.items():
            _require(source, f"transformer_lm.{key}", network.get(key, value), value)
        stereo = sections.get("interleave_stereo_codebooks", {})
        _require(source, "interleave_stereo_codebooks.use", stereo.get("use", False), False)
        dim, heads = int(network["dim"]), int(network["num_heads"])
        if dim % (2 * heads):
            raise CheckpointError(f"{source}: dim {dim} can't be split into {heads} even heads")
        guidance = network.get("cfg_coef")
        return FlowConfig(
            dim=dim,
            latent_dim=int(network["latent_dim"]),
            num_heads=heads,
            num_layers=int(network["num_layers"]),
            hidden_scale=int(network["hidden_scale"]),
            time_features=tensors["timestep_embedder.mlp.0.weight"].shape[1],
            text_features=tensors[TEXT_PROJECTION + "weight"].shape[1],
            segment_duration=float(sections["dataset"]["segment_duration"]),
            guidance=DEFAULT_GUIDANCE if guidance is None else float(guidance),
        )
    except KeyError as error:
        raise CheckpointError(f"{source}: no {error}") from None


# The options that this implementation supports; checkpoints with others are refused.
_CODEC_SIZES = (
    "n_residual_layers",
    "kernel_size",
    "residual_kernel_size",
    "last_kernel_size",
    "dilation_base",
    "compress",
    "lstm",
)
_CODEC_REQUIRED = {
    "activation": "snake",
    "norm": "weight_norm",
    "pad_mode": "reflect",
    "causal": False,
    "true_skip": True,
    "disable_norm_outer_blocks": 0,
}
_FLOW_REQUIRED = {
    "norm": "layer_norm",
    "norm_first": True,
    "activation": "gelu",
    "positional_embedding": "rope",
    "cross_attention": True,
    "skip_connections": True,
    "add_zero_attn": True,
    "causal": False,
    "xpos": False,
    "layer_scale": None,
    "qk_layer_norm": False,
    "qk_layer_norm_cross": False,
    "bias_ff": False,
    "bias_attn": False,
    "bias_proj": False,
    "kv_repeat": 1,
}


def _require(source: Path, key: str, value: object, wanted: object) -> None:
    if value != wanted:
        raise CheckpointError(f"{source}: {key} is {value!r}; only {wanted!r} is supported")


def _copy_t5(source: Path, out: Path) -> None:
    """Copies a T5 folder's encoder weights and tokenizer files."""
    weights = source / "model.safetensors"
    if not weights.is_file():
        raise CheckpointError(f"{weights}: missing")
    out.mkdir()
    with safe_open(weights, framework="pt") as file:
        kept = {
            name: file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118
            if name == "shared.weight" or name.startswith("encoder.")
        }
    save_file(kept, out / "model.safetensors", metadata={"format": "pt"})
    for path in source.iterdir():
        if path.suffix == ".json" or path.name == "spiece.model":
            shutil.copyfile(path, out / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/convert_weights",
        description="Converts the released .bin files into the form the service loads.",
    )
    parser.add_argument(
        "source", type=Path, help="folder of state_dict.bin, compression_state_dict.bin"
    )
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--t5", type=Path, help="folder of the T5 encoder (default: SOURCE/t5)")
    parser.add_argument("--name", help="the checkpoint's name (default: SOURCE's)")
    parser.add_argument(
        "--licence", help=f"of the weights (default: {RELEASED_LICENCE} for the released)"
    )
    given = parser.parse_args()
    try:
        convert(given.source, given.out, t5=given.t5, name=given.name, licence=given.licence)
    except CheckpointError as error:
        sys.exit(f"convert_weights: {error}")
    print(f"{given.out}: converted")


if __name__ == "__main__":
    main()
