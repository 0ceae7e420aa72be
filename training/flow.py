"""Trains the velocity network on the codec's latents of paired music.

Noise is coupled to the music: x0 = sqrt(SHARED) C + sqrt(1 - SHARED) noise, where C is the
standardised mean latent of all renderings of the same notes. With independent noise, an inversion
forgets the notes until training has run for long. With coupled noise, the noise end of a path
carries the notes, and the prompt carries the instruments. Inference is unchanged. This isn't Meta's
recipe, and it needs paired data.
"""

import math
import random
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from melodyflow.model.codec import Codec, posterior_sample
from melodyflow.model.transformer import FlowConfig, FlowModel, Row
from training import captions
from training.budget import Run, quick_products, rate
from training.codec import CONFIG, clips
from training.data import CLASSES
from training.text import WIDTH, Classifier, misspelt

FLOW = FlowConfig(
    dim=192, latent_dim=CONFIG.latent_dim, num_heads=6, num_layers=8, hidden_scale=4,
    time_features=256, text_features=WIDTH, segment_duration=30.0, guidance=0.75,
)  # fmt: skip
SHARED = 0.75  # variance of C in the noise
PLAIN = 0.12  # share of rows whose noise is independent
DROPPED = 0.3  # share of rows without a prompt
PROMPTS, ROWS = 4, 2  # of a batch: prompts, and rows of each
PEAK = 1e-3


@torch.no_grad()
def encode(
    work: Path, codec: Codec, device: str
) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    """Mean and scale float16 [clips, 2*latent, frames] of every clip, kept in `work`."""
    path = work / "latents.npy"
    if path.exists():
        return cast(
            "np.ndarray[tuple[int, ...], np.dtype[np.float16]]", np.load(path, mmap_mode="r")
        )
    audio, _ = clips(work)
    frames = CONFIG.frames(audio.shape[1])
    part = path.with_suffix(".part")
    out = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        part, "w+", np.float16, (len(audio), 2 * CONFIG.latent_dim, frames)
    )
    for at in range(0, len(audio), 16):
        waveform = torch.from_numpy(audio[at : at + 16].astype(np.float32) / 32768).to(device)
        out[at : at + 16] = codec.encode(waveform[:, None]).cpu().numpy()
        if at % 1600 == 0:
            print(f"latents: {at}/{len(audio)}", flush=True)
    out.flush()
    part.rename(path)
    return cast("np.ndarray[tuple[int, ...], np.dtype[np.float16]]", out)


class Trained(nn.Module):
    """What is trained here: the network, and the projection of the frozen text encoder's states."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = FlowModel(FLOW)
        self.projection = nn.Linear(WIDTH, FLOW.dim)
        for parameter in self.flow.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]))
        # Small residual branches and a zero output stabilise the first steps.
        for name, parameter in self.flow.named_parameters():
            if name.endswith(("out_proj.weight", "linear2.weight")):
                parameter.data *= 0.0 if name == "out_proj.weight" else 0.3
        pairs = FLOW.head_dim // 2
        frequencies = 10000 ** (-torch.arange(pairs, dtype=torch.float32) / pairs)
        self.flow.transformer.rope.frequencies.copy_(frequencies)


class Pairs:
    """Latents of the training clips, grouped by composition."""

    def __init__(
        self, latents: "np.ndarray[tuple[int, ...], np.dtype[np.float16]]", work: Path
    ) -> None:
        labels = np.load(work / "clips.npz")
        _, held = clips(work)
        self.latents, self.label = latents, labels["label"]
        self.training = np.flatnonzero(~held)
        mean, std = self._statistics()
        self.mean, self.std = mean, std
        self.shared = self._shared(labels["seed"])
        self.composition = labels["seed"]
        self.by_class = [self.training[self.label[self.training] == c] for c in range(len(CLASSES))]

    def _means(self, rows: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> Tensor:
        return torch.from_numpy(self.latents[rows, : CONFIG.latent_dim].astype(np.float32))

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation [1, latent, 1] of the sampled latents."""
        rows = self.training[:: max(1, len(self.training) // 2000)]
        both = torch.from_numpy(self.latents[rows].astype(np.float32))
        mean, scale = both.chunk(2, dim=1)
        variance = mean.var((0, 2)) + (F.softplus(scale) + 1e-4).square().mean((0, 2))
        return mean.mean((0, 2))[None, :, None], variance.sqrt()[None, :, None]

    def _shared(
        self, seeds: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"
    ) -> dict[int, Tensor]:
        """C of each composition: the mean over its renderings, with unit variance in each channel
        over all compositions."""
        groups: dict[int, list[int]] = {}
        for row in self.training:
            groups.setdefault(int(seeds[row]), []).append(int(row))
        means = {
            seed: ((self._means(np.array(rows)) - self.mean) / self.std).mean(0)
            for seed, rows in groups.items()
        }
        stacked = torch.stack(list(means.values()))
        middle, spread = stacked.mean((0, 2), keepdim=True)[0], stacked.std((0, 2), keepdim=True)[0]
        return {seed: ((mean - middle) / spread).half() for seed, mean in means.items()}

    def batch(
        self, rng: np.random.Generator, noise: torch.Generator
    ) -> tuple[list[int], Tensor, Tensor]:
        """PROMPTS classes; normalised latents x1 and noise x0 [PROMPTS*ROWS, latent, frames]."""
        classes = [int(c) for c in rng.integers(0, len(CLASSES), PROMPTS)]
        rows = np.concatenate([rng.choice(self.by_class[c], ROWS) for c in classes])
        both = torch.from_numpy(self.latents[rows].astype(np.float32))
        shape = both[:, : CONFIG.latent_dim].shape
        sample = posterior_sample(both, torch.randn(shape, generator=noise))
        music = (sample - self.mean) / (self.std + 1e-5)
        start = torch.randn(shape, generator=noise)
        shared = torch.stack([self.shared[int(self.composition[row])].float() for row in rows])
        coupled = torch.rand(len(rows), generator=noise)[:, None, None] >= PLAIN
        start = torch.where(
            coupled, math.sqrt(SHARED) * shared + math.sqrt(1 - SHARED) * start, start
        )
        return classes, music, start


def times(count: int, noise: torch.Generator) -> list[float]:
    """Flowsteps: 60 % uniform, 40 % more often in the middle."""
    uniform = torch.rand(count, generator=noise)
    middle = torch.sigmoid(torch.randn(count, generator=noise))
    return torch.where(torch.rand(count, generator=noise) < 0.6, uniform, middle).tolist()


def train(
    work: Path, codec: Codec, text: Classifier, minutes: float, device: str = "cpu"
) -> Trained:
    """Trains for `minutes` in all (the latents' encoding is not counted), going on with what `work`
    holds; the averaged network."""
    pairs = Pairs(encode(work, codec, device), work)
    torch.manual_seed(0)
    trained = Trained().to(device)
    trained.flow.latent_mean.copy_(pairs.mean)
    trained.flow.latent_std.copy_(pairs.std)
    optimizer = torch.optim.AdamW(trained.parameters(), PEAK, betas=(0.9, 0.98), weight_decay=0.01)
    run = Run(work, "flow", trained, optimizer, minutes)
    step = run.progress.step
    rng, words = np.random.default_rng([1, step]), random.Random(step)
    tokenizer = transformers.ByT5Tokenizer()
    t5 = cast(nn.Module, text.t5).to(device).eval()
    mean_loss, noted = 0.0, run.progress.spent
    for share in run.turns():
        for group in optimizer.param_groups:
            group["lr"] = rate(share, PEAK, warm=0.02)
        classes, music, start = pairs.batch(rng, run.rng)
        texts = []
        for name in (CLASSES[c] for c in classes):
            prompt = misspelt(captions.training(name, words), words)
            ids = tokenizer([prompt], return_tensors="pt").to(device)
            with torch.no_grad():
                states = t5(**ids).last_hidden_state[0]
            texts.append(trained.flow.read_text(trained.projection(states)))
        steps = times(len(music), run.rng)
        embedded = trained.flow.embed_times(steps)
        music, start = music.to(device), start.to(device)
        rows = [
            Row(
                latents=t * music[i] + (1 - t) * start[i],
                flowstep=t,
                time=embedded[t],
                text=None if words.random() < DROPPED else texts[i // ROWS],
            )
            for i, t in enumerate(steps)
        ]
        with quick_products(device):
            loss = F.mse_loss(torch.stack(trained.flow(rows)), music - start)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        mean_loss = 0.99 * mean_loss + 0.01 * loss.item() if mean_loss else loss.item()
        if run.progress.spent - noted >= 1:
            noted = run.progress.spent
            run.note(loss=mean_loss)
    trained.load_state_dict(run.average.state(trained))
    run.save()
    return trained.eval()
