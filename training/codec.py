"""Trains the codec: waveform -> latents -> the same waveform, as the ear has it.

    python -m training.codec WORK --minutes 90

Loss: log-mel differences and spectral convergence at five resolutions, the waveform itself, and a
little of the posterior's divergence from a unit Gaussian, which comes late (from the first step on
it would win, and no latent would carry anything).
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from melodyflow.model.codec import Codec, CodecConfig, Snake, posterior_sample
from training import measures
from training.budget import Run, rate
from training.data import HELD_OUT, RATE

# The first stride of the encoder is the widest: what runs at the waveform's own rate costs most.
CONFIG = CodecConfig(RATE, 1, latent_dim=96, n_filters=16, ratios=(4, 4, 5, 8), lstm=2)
CROP = 32 * CONFIG.hop  # samples
BATCH = (4, 8)  # in the first half of the budget, and in the second
PEAK = 1e-3
RESOLUTIONS = (2048, 1024, 512, 256, 128)
DIVERGENCE = 4e-3
FLOOR = 1e-4
CHECKED = 32  # held-out clips whose figures are noted on the way
COMPILED = 5.0  # minutes: compiling pays from here on


def _snake(x: Tensor, alpha: Tensor) -> Tensor:
    return x + torch.sin(alpha * x).square() / (alpha + 1e-9)


def _snake_gradients(grad: Tensor, x: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    sine, cosine = torch.sin(2 * alpha * x), torch.cos(2 * alpha * x)
    inverse = 1 / (alpha + 1e-9)
    by_x = grad * (1 + sine * alpha * inverse)
    by_alpha = grad * (x * sine * inverse - 0.5 * (1 - cosine) * inverse.square())
    return by_x, by_alpha.sum((0, 2), keepdim=True)


class _FusedSnake(torch.autograd.Function):
    """Snake in one pass forward and one back, which recomputes the sine instead of keeping it."""

    forward_pass: Callable[[Tensor, Tensor], Tensor] = _snake
    backward_pass: Callable[..., tuple[Tensor, Tensor]] = _snake_gradients

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(x, alpha)
        return _FusedSnake.forward_pass(x.detach(), alpha.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, alpha = ctx.saved_tensors
        return _FusedSnake.backward_pass(grads[0].contiguous(), x.detach(), alpha.detach())


def fuse(module: nn.Module) -> None:
    """Makes a module's snakes cheap to train, compiled where there is a C++ compiler. The values
    are the same."""
    import shutil

    if shutil.which("g++") or torch.cuda.is_available():
        _FusedSnake.forward_pass = torch.compile(_snake, dynamic=True)
        _FusedSnake.backward_pass = torch.compile(_snake_gradients, dynamic=True)
    for part in module.modules():
        if isinstance(part, Snake):
            part.forward = lambda x, part=part: _FusedSnake.apply(x, part.alpha)  # type: ignore[method-assign,misc,no-untyped-call]


def reconstruction_loss(target: Tensor, made: Tensor) -> dict[str, Tensor]:
    """Parts of the loss between waveforms [batch, samples]. Spectral convergence is over the whole
    batch: a silent clip alone would divide by nothing."""
    mel = convergence = torch.zeros((), device=target.device)
    for size in RESOLUTIONS:
        bank = measures.mel_bank(size, max(8, size // 16)).to(target.device)
        ours, theirs = (measures.magnitudes(x, size, size // 4) for x in (target, made))
        bands = [(bank @ x).clamp(min=FLOOR).log() for x in (ours, theirs)]
        mel = mel + (bands[0] - bands[1]).abs().mean() / len(RESOLUTIONS)
        convergence = convergence + (ours - theirs).norm() / ours.norm() / len(RESOLUTIONS)
    return {"mel": mel, "convergence": convergence, "wave": 5 * F.l1_loss(made, target)}


def divergence(mean_and_scale: Tensor) -> Tensor:
    """Of the posterior from a unit Gaussian, in nats a latent value."""
    mean, scale = mean_and_scale.chunk(2, dim=1)
    std = F.softplus(scale) + 1e-4
    return (0.5 * (mean.square() + std.square() - 1) - std.log()).mean()


def clips(work: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The waveforms int16 [clips, samples], not read yet, and whether each is held out."""
    labels = np.load(work / "clips.npz")
    held = labels["seed"] >= int(labels["compositions"]) - HELD_OUT
    return np.load(work / "audio.npy", mmap_mode="r"), held


def crops(audio: np.ndarray[Any, Any], rows: Tensor, starts: Tensor) -> Tensor:
    """Waveforms [batch, CROP] in float."""
    picked = [audio[row, start : start + CROP] for row, start in zip(rows, starts, strict=True)]
    return torch.from_numpy(np.stack(picked).astype(np.float32) / 32768)


@torch.no_grad()
def check(codec: Codec, waveforms: Tensor) -> dict[str, float]:
    """Of whole clips [clips, samples]: log-mel error and chroma correlation, as an edit has them
    (the posterior is sampled)."""
    rng = torch.Generator().manual_seed(0)
    made = []
    for part in torch.split(waveforms, 8):
        posterior = codec.encode(part[:, None])
        noise = torch.randn(posterior[:, : codec.config.latent_dim].shape, generator=rng)
        made.append(
            codec.decode(posterior_sample(posterior, noise.to(part.device)))[:, 0, : part.shape[1]]
        )
    result = torch.cat(made)
    return {
        "log_mel_db": float(measures.log_mel_distance(waveforms, result).mean()),
        "chroma": float(measures.chroma_correlation(waveforms, result).mean()),
    }


def train(work: Path, minutes: float, device: str = "cpu") -> Codec:
    """Trains for `minutes` in all, going on with what `work` holds, but no more once `work` holds
    its latents; the averaged codec."""
    torch.manual_seed(0)
    return _fit(work, "codec", Codec(CONFIG).to(device), minutes, device)


def refine(work: Path, codec: Codec, minutes: float, device: str = "cpu") -> Codec:
    """Trains the decoder alone for `minutes` in all, so that latents stay what they were: the
    network's training can go on beside it."""
    refined = Codec(CONFIG).to(device)
    refined.load_state_dict(codec.state_dict())
    refined.encoder.requires_grad_(False)
    return _fit(work, "decoder", refined, minutes, device)


def _fit(work: Path, name: str, codec: Codec, minutes: float, device: str) -> Codec:
    """Trains what of the codec has gradients; the state is kept as `name`."""
    trained = [p for p in codec.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, PEAK, betas=(0.8, 0.99), weight_decay=1e-3)
    run = Run(work, name, codec, optimizer, minutes)
    if run.done or (name == "codec" and (work / "latents.npy").exists()):
        return averaged(run, device)
    if minutes >= COMPILED:
        fuse(codec)
    audio, held = clips(work)
    training = torch.from_numpy(np.flatnonzero(~held))
    test = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(held))[:CHECKED])
    test_clips = torch.from_numpy(audio[test].astype(np.float32) / 32768).to(device)
    checked = run.progress.spent
    sums: dict[str, float] = {}
    for share in run.turns():
        for group in optimizer.param_groups:
            group["lr"] = rate(share, PEAK)
        batch = BATCH[share >= 0.5]
        rows = training[torch.randint(len(training), (batch,), generator=run.rng)]
        starts = torch.randint(audio.shape[1] - CROP + 1, (batch,), generator=run.rng)
        waveform = crops(audio, rows, starts).to(device)
        posterior = codec.encode(waveform[:, None])
        noise = torch.randn_like(posterior[:, : CONFIG.latent_dim])
        made = codec.decode(posterior_sample(posterior, noise))[:, 0]
        losses = reconstruction_loss(waveform, made)
        losses["divergence"] = divergence(posterior)
        weight = DIVERGENCE * min(1.0, 0.05 + 4 * share)
        loss = (
            losses["mel"] + losses["convergence"] + losses["wave"] + weight * losses["divergence"]
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        for part, value in losses.items():
            sums[part] = 0.98 * sums.get(part, value.item()) + 0.02 * value.item()
        if run.progress.spent - checked >= 2:
            checked = run.progress.spent
            run.note(**sums, **check(averaged(run, device), test_clips))
    codec = averaged(run, device)
    run.note(**sums, **check(codec, test_clips))
    run.save()
    return codec


def averaged(run: Run, device: str) -> Codec:
    codec = Codec(CONFIG).to(device).eval()
    codec.load_state_dict(run.average.state(cast(Codec, run.module)))
    return codec


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.codec", description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=90.0)
    given = parser.parse_args()
    train(given.work, given.minutes, "cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
