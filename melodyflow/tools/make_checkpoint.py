"""Makes random-weight checkpoints in the released layout, for tests and measurements. They don't
make music."""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import CODEC, FLOW, T5, expected_shapes
from melodyflow.model.codec import Codec, CodecConfig
from melodyflow.model.t5 import T5Config, T5Encoder
from melodyflow.model.text import TextEncoder
from melodyflow.model.tokenizer import byte_ids
from melodyflow.model.transformer import FlowConfig, FlowModel
from melodyflow.tools.convert import CODEC_SOURCE, DEFAULT_GUIDANCE, FLOW_SOURCE, WEIGHT_NORM

RATIOS = (8, 8, 6, 5)
# latent, codec filters, dim, heads, layers
SIZES = {
    "tiny": (16, 4, 64, 4, 6),
    "small": (32, 8, 128, 4, 8),
    "full": (128, 64, 1536, 24, 24),
}
# width, feed-forward, heads, layers
T5_SIZES = {"tiny": (64, 128, 4, 2), "small": (128, 256, 4, 2), "full": (768, 3072, 12, 12)}


def make_checkpoint(size: str, out: Path) -> None:
    """Writes state_dict.bin, compression_state_dict.bin and t5/ of a size (`tiny`, `small`, `full`)
    into a new folder.

    The same size gives the same weights. `full` has the released model's tensors: 962,425,632
    values in 334 tensors and 59,677,956 in 126.
    """
    codec, flow = configs(size)
    out.mkdir(parents=True)
    rng = torch.Generator().manual_seed(0)
    _save(out / CODEC_SOURCE, dict(_codec_tensors(codec, flow, rng)), _codec_sections(codec))
    _save(out / FLOW_SOURCE, dict(_flow_tensors(codec, flow, rng)), _flow_sections(flow))
    _save_t5(out / T5, *T5_SIZES[size])


@torch.inference_mode()
def random_model(size: str, device: str = "cpu") -> MelodyFlow:
    """An fp32 model of a size with weights drawn on the device, which takes seconds. They differ
    from `make_checkpoint`'s."""
    codec_config, flow_config = configs(size)
    width, hidden, heads, layers = T5_SIZES[size]
    t5_config = T5Config(384, width, width // heads, hidden, layers, heads)
    with torch.device("meta"):
        codec, flow = Codec(codec_config), FlowModel(flow_config)
        text = TextEncoder(T5Encoder(t5_config), byte_ids, flow_config.dim)
    rng = torch.Generator(device).manual_seed(0)
    parts: tuple[nn.Module, ...] = (codec, text, flow)
    for part in parts:
        tensors = {n: _random(n, tuple(t.shape), rng) for n, t in part.state_dict().items()}
        for name, tensor in tensors.items():
            if name.endswith("SelfAttention.q.weight"):
                tensor /= math.sqrt(t5_config.d_kv)  # T5 does not scale its attention scores
        part.load_state_dict(tensors, assign=True)
        part.to(device).eval().requires_grad_(False)
    return MelodyFlow(codec=codec, text=text, flow=flow)


def configs(size: str) -> tuple[CodecConfig, FlowConfig]:
    """Configuration of a size."""
    latent, filters, dim, heads, layers = SIZES[size]
    width = T5_SIZES[size][0]
    flow = FlowConfig(dim, latent, heads, layers, 4, 256, width, 30.0, DEFAULT_GUIDANCE)
    return CodecConfig(48000, 2, latent, filters, RATIOS), flow


def _random(name: str, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    if name == "transformer.rope.frequencies":
        pairs = shape[0]
        steps = torch.arange(pairs, dtype=torch.float32, device=rng.device)
        frequencies = 10000 ** (-steps / pairs)
        return frequencies.bfloat16().float()  # rounded like the released table
    noise = torch.randn(shape, generator=rng, device=rng.device)
    scales = "norm" in name and name.endswith("weight")
    if scales or name.endswith("alpha") or name == "latent_std":
        return 1 + 0.1 * noise
    if len(shape) < 2 or name == "latent_mean":
        return 0.02 * noise
    return noise / math.sqrt(math.prod(shape[1:]))  # keeps the variance from layer to layer


def _codec_tensors(
    codec: CodecConfig, flow: FlowConfig, rng: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    for name, shape in expected_shapes(CODEC, codec, flow).items():
        tensor = _random(name, shape, rng)
        for kind in ("conv", "convtr"):
            name = name.replace(f".{kind}.", f".{kind}.{kind}.")
        if name.endswith((".conv.weight", ".convtr.weight")):
            normed = name.removesuffix(".weight") + WEIGHT_NORM
            yield normed + "0", tensor.flatten(1).norm(dim=1)[:, None, None]
            yield normed + "1", tensor
        else:
            yield name, tensor


def _flow_tensors(
    codec: CodecConfig, flow: FlowConfig, rng: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    for name, shape in expected_shapes(FLOW, codec, flow).items():
        tensor = _random(name, shape, rng)
        yield name, tensor
        if name == "transformer.rope.frequencies":
            for layer in range(flow.num_layers):
                yield f"transformer.layers.{layer}.self_attn.rope.frequencies", tensor


def _codec_sections(codec: CodecConfig) -> dict[str, Any]:
    return {
        "compression_model": "encodec",
        "sample_rate": codec.sample_rate,
        "channels": codec.channels,
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "no_quant",
            "sample_rate": codec.sample_rate,
            "channels": codec.channels,
            "causal": False,
            "renormalize": False,
        },
        "no_quant": {},
        "seanet": {
            "dimension": codec.latent_dim,
            "channels": codec.channels,
            "causal": False,
            "n_filters": codec.n_filters,
            "n_residual_layers": codec.n_residual_layers,
            "ratios": list(codec.ratios),
            "activation": "snake",
            "norm": "weight_norm",
            "kernel_size": codec.kernel_size,
            "residual_kernel_size": codec.residual_kernel_size,
            "last_kernel_size": codec.last_kernel_size,
            "dilation_base": codec.dilation_base,
            "pad_mode": "reflect",
            "true_skip": True,
            "compress": codec.compress,
            "lstm": codec.lstm,
            "disable_norm_outer_blocks": 0,
            "encoder": {"dimension": 2 * codec.latent_dim},
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None},
        },
    }


def _flow_sections(flow: FlowConfig) -> dict[str, Any]:
    return {
        "dataset": {"segment_duration": flow.segment_duration},
        "lm_model": "dit",
        "transformer_lm": {
            "dim": flow.dim,
            "latent_dim": flow.latent_dim,
            "num_heads": flow.num_heads,
            "num_layers": flow.num_layers,
            "hidden_scale": flow.hidden_scale,
            "norm": "layer_norm",
            "norm_first": True,
            "bias_proj": False,
            "bias_ff": False,
            "bias_attn": False,
            "activation": "gelu",
            "causal": False,
            "layer_scale": None,
            "positional_embedding": "rope",
            "xpos": False,
            "qk_layer_norm": False,
            "qk_layer_norm_cross": False,
            "skip_connections": True,
            "add_zero_attn": True,
            "cross_attention": True,
        },
        "fuser": {"sum": [], "prepend": [], "cross": ["description"], "input_interpolate": []},
        "conditioners": {"description": {"model": "t5", "t5": {"name": "t5-base"}}},
    }


def _save(path: Path, tensors: dict[str, Tensor], sections: dict[str, Any]) -> None:
    from omegaconf import OmegaConf

    torch.save({"best_state": tensors, "xp.cfg": OmegaConf.create(sections)}, path)


def _save_t5(out: Path, width: int, hidden: int, heads: int, layers: int) -> None:
    config = T5Config(
        vocab_size=384,
        d_model=width,
        d_kv=width // heads,
        d_ff=hidden,
        num_layers=layers,
        num_heads=heads,
    )
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in T5Encoder(config).state_dict().items()}
    rng = torch.Generator().manual_seed(0)
    tensors = {name: _random(name, shape, rng) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        if name.endswith("SelfAttention.q.weight"):
            tensor /= math.sqrt(config.d_kv)  # T5 does not scale its attention scores
    out.mkdir()
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    described = {"architectures": ["T5EncoderModel"], "model_type": "t5", **asdict(config)}
    (out / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    # bytes: a tokenizer without a vocabulary file
    tokenizer = {"tokenizer_class": "ByT5Tokenizer"}
    (out / "tokenizer_config.json").write_text(json.dumps(tokenizer) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/make_checkpoint",
        description="Makes a random-weight checkpoint in the released layout.",
    )
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("out", type=Path, help="folder to make")
    given = parser.parse_args()
    if given.out.exists():
        sys.exit(f"make_checkpoint: {given.out} already exists; choose another folder or remove it")
    make_checkpoint(given.size, given.out)
    print(f"{given.out}: made")


if __name__ == "__main__":
    main()
