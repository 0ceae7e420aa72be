"""The judge: a classifier of sounds. It is trained on codec output, because a judge trained on
clean recordings is wrong on half of the codec's clips.

    python -m training.judge WORK CHECKPOINT --minutes 8
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from melodyflow.model.checkpoint import load, open_checkpoint
from melodyflow.model.codec import Codec, posterior_sample
from training import measures
from training.budget import Run, rate
from training.codec import clips
from training.data import CLASSES

BATCH = 32
PEAK = 2e-3
FRAMES = 128  # of the log-mel at 62.5 a second: 2 s


class Judge(nn.Module):
    """Log-mel [batch, bands, frames] -> scores [batch, classes]: convolutions, then averages."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 24, 48, 96, 128)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.AvgPool2d(2)
                )
                for a, b in itertools.pairwise(widths)
            )
        )
        self.head = nn.Linear(2 * widths[-1], len(CLASSES))

    def forward(self, mel: Tensor) -> Tensor:
        x = self.layers((mel[:, None] + 50) / 20).mean(2)
        return self.head(torch.cat((x.mean(2), x.amax(2)), 1))  # type: ignore[no-any-return]

    @torch.no_grad()
    def hears(self, waveforms: Tensor) -> Tensor:
        """Classes [batch] of waveforms [batch, samples]."""
        return self(measures.log_mel(waveforms)).argmax(1)  # type: ignore[no-any-return]


@torch.no_grad()
def through(codec: Codec, waveforms: Tensor, seed: int = 0) -> Tensor:
    """Passes waveforms [batch, samples] through the codec, with a sampled posterior."""
    rng = torch.Generator().manual_seed(seed)
    made = []
    for part in torch.split(waveforms, 16):
        posterior = codec.encode(part[:, None].expand(-1, codec.config.channels, -1))
        noise = torch.randn(posterior.chunk(2, 1)[0].shape, generator=rng)
        decoded = codec.decode(posterior_sample(posterior, noise)).mean(1)
        made.append(decoded[:, : part.shape[1]])
    return torch.cat(made)


def heard(work: Path, codec: Codec, count: int) -> tuple[Tensor, Tensor]:
    """Log-mels float16 of training clips through the codec, and their classes; kept in `work`."""
    path = work / "heard.pt"
    if path.exists():
        kept = torch.load(path, weights_only=True)
        return kept["mel"], kept["label"]
    audio, held = clips(work)
    labels = np.load(work / "clips.npz")["label"]
    rows = np.random.default_rng(0).permutation(np.flatnonzero(~held))[:count]
    mels = []
    for at in range(0, len(rows), 64):
        part = torch.from_numpy(audio[rows[at : at + 64]].astype(np.float32) / 32768)
        mels.append(measures.log_mel(through(codec, part, at)).half())
    kept = {"mel": torch.cat(mels), "label": torch.from_numpy(labels[rows])}
    torch.save(kept, path)
    return kept["mel"], kept["label"]


def train(work: Path, codec: Codec, minutes: float, count: int = 6000) -> Judge:
    """Trains for `minutes` (the codec's work is not counted), going on with what `work` holds."""
    mels, labels = heard(work, codec, count)
    torch.manual_seed(0)
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), PEAK, weight_decay=0.01)
    run = Run(work, "judge", judge, optimizer, minutes)
    loss, noted = torch.zeros(()), run.progress.spent
    for share in run.turns():
        for group in optimizer.param_groups:
            group["lr"] = rate(share, PEAK)
        rows = torch.randint(len(mels), (BATCH,), generator=run.rng)
        start = int(torch.randint(mels.shape[2] - FRAMES + 1, (1,), generator=run.rng))
        mel = mels[rows, :, start : start + FRAMES].float()
        # Random gain, so that the level is no clue.
        mel = mel + 6 * torch.rand(BATCH, 1, 1, generator=run.rng) - 3
        loss = F.cross_entropy(judge(mel), labels[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if run.progress.spent - noted >= 1:
            noted = run.progress.spent
            run.note(loss=loss.item())
    # Batch statistics match the last weights, not their average.
    run.save()
    return judge.eval()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.judge", description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    given = parser.parse_args()
    train(given.work, load(open_checkpoint(given.checkpoint)).codec, given.minutes)


if __name__ == "__main__":
    main()
