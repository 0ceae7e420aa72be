"""Packed weights: the same numbers, and plain ones where PyTorch cannot pack."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import Precision, load, open_checkpoint
from melodyflow.model.linear import Activation, Linear, can_pack
from melodyflow.model.transformer import Row

needs_packing = pytest.mark.skipif(not can_pack(torch.float32), reason="PyTorch cannot pack here")


@torch.inference_mode()
def velocities(model: MelodyFlow) -> list[torch.Tensor]:
    """Of one told row and one that is not."""
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(model.flow.config.latent_dim, 33, generator=rng)
    time = model.flow.embed_times([0.3])[0.3]
    texts = (model.read_text("strings"), None)
    return model.flow([Row(latents, 0.3, time, text) for text in texts])


@needs_packing
@torch.inference_mode()
@pytest.mark.parametrize("tokens", [1, 16, 100, 750])
@pytest.mark.parametrize("activation", ["none", "gelu", "relu"])
@pytest.mark.parametrize("bias", [False, True])
def test_packed_and_plain_products_are_the_same(
    tokens: int, activation: Activation, bias: bool
) -> None:
    torch.manual_seed(tokens)
    layer = Linear(96, 160, bias=bias)
    x = torch.randn(tokens, 96)
    product = layer(x)
    expected = {"none": product, "gelu": F.gelu(product), "relu": F.relu(product)}[activation]
    torch.testing.assert_close(layer(x, activation), expected)
    layer.pack()
    assert layer.weight.is_mkldnn
    torch.testing.assert_close(layer(x, activation), expected)


@needs_packing
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_packed_network_gives_the_plain_ones_numbers(
    checkpoint: Path, precision: Precision
) -> None:
    opened = open_checkpoint(checkpoint)
    packed = load(opened, precision=precision)
    plain = load(opened, precision=precision, pack=False)
    assert not any(p.is_mkldnn for p in plain.flow.parameters())
    assert all(p.is_mkldnn for p in packed.flow.parameters() if p.dim() == 2)
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    for found, expected in zip(velocities(packed), velocities(plain), strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


def test_without_pytorchs_internal_names_the_weights_stay_plain(
    checkpoint: Path, model: MelodyFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    can_pack.cache_clear()
    try:
        assert not can_pack(torch.float32)
        plain = load(open_checkpoint(checkpoint))
    finally:
        can_pack.cache_clear()
    assert not any(p.is_mkldnn for p in plain.flow.parameters())
    monkeypatch.undo()
    for found, expected in zip(velocities(plain), velocities(model), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
