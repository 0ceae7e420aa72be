"""The network's and the codec's promises that no fixture covers."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from melodyflow import edit
from melodyflow.edit import Parameters, Solver
from melodyflow.model import MelodyFlow, codec
from melodyflow.model.checkpoint import load, open_checkpoint
from melodyflow.model.codec import Conv, TransposedConv, reflect_pad
from melodyflow.model.transformer import Row


@torch.inference_mode()
def test_rows_of_any_kind_share_a_call_without_touching_each_other(model: MelodyFlow) -> None:
    rng = torch.Generator().manual_seed(0)
    texts = [model.read_text(prompt) for prompt in ("strings", "a long guitar riff", "", "strings")]
    times = model.flow.embed_times([0.0, 0.3, 1.0])
    rows = [
        Row(
            torch.randn(model.flow.config.latent_dim, frames, generator=rng),
            flowstep,
            times[flowstep],
            texts[i % 4],
        )
        for i, (frames, flowstep) in enumerate(
            [(5, 0.3), (31, 0.0), (5, 1.0), (31, 0.3), (1, 0.0), (31, 0.3), (750, 1.0), (5, 0.3)]
        )
    ]
    together = model.flow(rows)
    for row, velocity in zip(rows, together, strict=True):
        (alone,) = model.flow([row])
        assert velocity.shape == row.latents.shape
        torch.testing.assert_close(velocity, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))


@torch.inference_mode()
def test_a_null_row_is_a_row_without_cross_attention(model: MelodyFlow) -> None:
    """The zero key alone survives the mask of an empty prompt, and its value is zero."""
    text = model.read_text("strings")
    assert text is not None
    silent = type(text)(text.keys[..., :1, :], text.values[..., :1, :])
    latents = torch.randn(model.flow.config.latent_dim, 9)
    time = model.flow.embed_times([0.5])[0.5]
    null, masked = model.flow([Row(latents, 0.5, time, None), Row(latents, 0.5, time, silent)])
    torch.testing.assert_close(null, masked, rtol=0, atol=1e-5)


def test_empty_prompt_is_the_null_condition(model: MelodyFlow) -> None:
    assert model.read_text("") is None
    with pytest.raises(ValueError, match="prompt"):
        model.text("")


def test_latent_frames_and_window_come_from_the_checkpoint(model: MelodyFlow) -> None:
    config = model.codec.config
    assert (config.hop, config.frame_rate) == (1920, 25.0)
    assert (model.max_frames, model.max_samples) == (750, 1_440_000)
    assert [config.frames(n) for n in (1, 1920, 1921, 48001)] == [1, 1, 2, 26]


@settings(max_examples=30, deadline=None)  # PyTorch's own compiles each shape
@given(
    batch=st.integers(1, 3),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 5),
    stride=st.integers(1, 9),
    frames=st.integers(1, 40),
)
def test_two_products_are_a_transposed_convolution(
    batch: int, inputs: int, outputs: int, stride: int, frames: int
) -> None:
    layer, x = TransposedConv(inputs, outputs, stride), torch.randn(batch, inputs, frames)
    expected = layer(x).detach()  # with gradients it is PyTorch's own
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 5, 8])
@pytest.mark.parametrize("samples", [1, 2, 3, 15, 16, 17, 40])
def test_convolutions_drop_no_sample(stride: int, samples: int) -> None:
    conv = Conv(1, 1, 7 if stride == 1 else 2 * stride, stride)
    assert conv(torch.zeros(1, 1, samples)).shape[-1] == -(-samples // stride)


def test_reflect_pad_takes_what_is_shorter_than_the_padding() -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert reflect_pad(x, 2, 1).tolist() == [[[3, 2, 1, 2, 3, 2]]]
    assert reflect_pad(torch.tensor([[[5.0]]]), 3, 3).shape[-1] == 7


def test_the_same_seed_gives_the_same_edit_and_another_one_another(model: MelodyFlow) -> None:
    waveform = torch.rand(2, 9000, generator=torch.Generator().manual_seed(0)) - 0.5
    calls: list[tuple[int, int]] = []
    parameters = Parameters(prompt="strings", seed=1, steps=3)
    first = edit.edit(model, waveform, parameters, lambda *call: calls.append(call))
    assert calls == [(done, 9) for done in range(1, 10)]
    assert first.shape == (2, 5 * 1920)
    assert torch.equal(first, edit.edit(model, waveform, parameters))
    other = edit.edit(model, waveform, Parameters(prompt="strings", seed=2, steps=3))
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("solver", ["euler", "midpoint"])
def test_bf16_is_close_to_fp32(model: MelodyFlow, checkpoint: Path, solver: Solver) -> None:
    waveform = torch.rand(2, 48000, generator=torch.Generator().manual_seed(0)) - 0.5
    euler = solver == "euler"
    parameters = Parameters(
        prompt="strings",
        seed=1,
        solver=solver,
        steps=25 if euler else 32,
        regularize_iters=2 if euler else 0,
        keep_last_k_iters=1 if euler else 0,
    )
    fp32 = edit.edit(model, waveform, parameters)
    bf16 = edit.edit(load(open_checkpoint(checkpoint), precision="bf16"), waveform, parameters)
    assert torch.cosine_similarity(fp32.flatten(), bf16.flatten(), dim=0) >= 0.995


@torch.inference_mode()
@pytest.mark.parametrize("piece", [4, 7, 30])
@pytest.mark.parametrize("samples", [31 * 1920, 31 * 1920 + 1, 75 * 1920 - 1])
def test_the_codec_in_pieces_equals_one_piece(model: MelodyFlow, samples: int, piece: int) -> None:
    """Also where the last piece is short, and its last frame partly filled."""
    generator = torch.Generator().manual_seed(samples)
    waveform = torch.rand(1, 2, samples, generator=generator) - 0.5
    encoded = model.codec.encode(waveform)
    latents = model.flow.normalise(encoded.chunk(2, dim=1)[0])
    for whole, parts in (
        (encoded, model.codec.encode(waveform, piece=piece)),
        (model.codec.decode(latents), model.codec.decode(latents, piece=piece)),
    ):
        assert parts.shape == whole.shape
        assert (parts - whole).abs().max() <= 1e-5 * whole.abs().max()


@torch.inference_mode()
def test_up_to_the_window_the_codec_runs_in_one_piece(model: MelodyFlow) -> None:
    waveform = torch.rand(1, 2, 9 * 1920) - 0.5
    encoded = model.codec.encode(waveform)
    assert torch.equal(encoded, model.codec.encode(waveform, piece=9))
    assert not torch.equal(encoded, model.codec.encode(waveform, piece=8)), "other products"


def test_an_edit_beyond_the_window(narrow: MelodyFlow) -> None:
    waveform = torch.rand(2, 5 * 48000 + 1, generator=torch.Generator().manual_seed(0)) - 0.5
    calls: list[tuple[int, int]] = []
    parameters = Parameters(prompt="strings", seed=1, steps=2)
    result = edit.edit(narrow, waveform, parameters, lambda *call: calls.append(call))
    assert result.shape == (2, 126 * 1920)
    assert calls == [(done, 6) for done in range(1, 7)], "one evaluation, however many windows"
    assert torch.isfinite(result).all()


@torch.inference_mode()
@pytest.mark.parametrize("frames", [1, 2, 9, 31])
def test_the_codec_on_a_ring_is_the_codec_on_many_laps(model: MelodyFlow, frames: int) -> None:
    generator = torch.Generator().manual_seed(frames)
    waveform = torch.rand(1, 2, frames * 1920, generator=generator) - 0.5
    laps = 90 // frames + 3
    middle = laps * 2 // 3 * frames
    encoded = model.codec.encode(waveform, ring=True)
    expected = model.codec.encode(waveform.repeat(1, 1, laps))[..., middle : middle + frames]
    assert (encoded - expected).abs().max() <= 1e-3 * expected.abs().max()
    latents = model.flow.normalise(encoded.chunk(2, dim=1)[0])
    decoded = model.codec.decode(latents, ring=True)
    expected = model.codec.decode(latents.repeat(1, 1, laps))
    expected = expected[..., middle * 1920 : (middle + frames) * 1920]
    assert decoded.shape == waveform.shape
    assert (decoded - expected).abs().max() <= 1e-3 * expected.abs().max()


@torch.inference_mode()
@pytest.mark.parametrize("piece", [4, 7])
def test_a_ring_in_pieces_equals_one_piece(model: MelodyFlow, piece: int) -> None:
    waveform = torch.rand(1, 2, 31 * 1920, generator=torch.Generator().manual_seed(0)) - 0.5
    encoded = model.codec.encode(waveform, ring=True)
    parts = model.codec.encode(waveform, piece=piece, ring=True)
    assert (parts - encoded).abs().max() <= 1e-5 * encoded.abs().max()
    latents = model.flow.normalise(encoded.chunk(2, dim=1)[0])
    decoded = model.codec.decode(latents, ring=True)
    parts = model.codec.decode(latents, piece=piece, ring=True)
    assert (parts - decoded).abs().max() <= 1e-5 * decoded.abs().max()


@torch.inference_mode()
def test_on_a_cpu_the_codec_takes_pieces_that_fit_into_memory_that_is_kept(
    model: MelodyFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    waveform = torch.rand(1, 2, 9 * 1920) - 0.5
    whole, in_fours = model.codec.encode(waveform), model.codec.encode(waveform, piece=4)
    monkeypatch.setattr(codec, "CPU_VALUES", 4 * 1920 * model.codec.config.n_filters)
    assert torch.equal(model.codec.encode(waveform), in_fours)
    assert not torch.equal(whole, in_fours), "other products"


def test_a_codec_out_of_memory_takes_smaller_pieces_with_the_same_result(
    model: MelodyFlow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    latents = torch.randn(1, model.flow.config.latent_dim, 300)
    expected = model.decode(latents)
    decode, pieces = model.codec.decode, []

    def short_of_memory(latents: torch.Tensor, *, piece: int, ring: bool) -> torch.Tensor:
        pieces.append(piece)
        if piece > 100:
            raise torch.OutOfMemoryError("no memory")
        return decode(latents, piece=piece, ring=ring)

    monkeypatch.setattr(model.codec, "decode", short_of_memory)
    assert torch.allclose(model.decode(latents), expected, atol=1e-5)
    assert pieces == [750, 375, 187, 93]
    assert "out of memory at 750 frames of the codec" in caplog.text

    def never(latents: torch.Tensor, *, piece: int, ring: bool) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(model.codec, "decode", never)
    with pytest.raises(torch.OutOfMemoryError):
        model.decode(latents)
