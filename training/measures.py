"""What an edit keeps and what it becomes, as figures. Waveforms are [samples] or [batch, samples]
at `data.RATE`, of equal length where two are compared."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data import RATE

FLOOR = 1e-4  # of mel magnitudes, where full scale is 1: 80 dB


@cache
def window(size: int) -> Tensor:
    return torch.hann_window(size)


@cache
def mel_bank(size: int, bands: int) -> Tensor:
    """Triangular filters [bands, size/2 + 1] on the mel scale from 30 Hz to half the rate; each
    sums to 1, so that a band's value does not depend on its width."""
    top = 2595 * torch.log10(torch.tensor(1 + RATE / 2 / 700))
    low = 2595 * torch.log10(torch.tensor(1 + 30 / 700))
    corners = 700 * (10 ** (torch.linspace(float(low), float(top), bands + 2) / 2595) - 1)
    bins = torch.linspace(0, RATE / 2, size // 2 + 1)
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    bank = torch.minimum(rising, falling).clamp(min=0)
    # A band narrower than a bin takes the nearest one.
    empty = bank.sum(1) == 0
    bank[empty, (corners[1:-1][empty] / (RATE / 2) * (size // 2)).round().long()] = 1
    return bank / bank.sum(1, keepdim=True)


def _batch(x: Tensor) -> Tensor:
    return x if x.ndim > 1 else x[None]


def magnitudes(x: Tensor, size: int, hop: int) -> Tensor:
    """|STFT| [batch, size/2 + 1, frames], a sine of amplitude 1 reaching 1."""
    spectrum = torch.stft(x, size, hop, window=window(size), return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt() * (4 / size)


def log_mel(x: Tensor, size: int = 1024, hop: int = 256, bands: int = 64) -> Tensor:
    """Decibels [batch, bands, frames], not below -80."""
    mel = mel_bank(size, bands) @ magnitudes(_batch(x), size, hop)
    return 20 * torch.log10(mel.clamp(min=FLOOR))


def log_mel_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the log-mel spectrograms in dB, [batch]."""
    return (log_mel(a) - log_mel(b)).abs().mean((1, 2))


@cache
def _chroma_bank(size: int) -> Tensor:
    """[12, size/2 + 1]: each bin from 60 to 2000 Hz into its pitch class, half a semitone wide."""
    bins = torch.linspace(0, RATE / 2, size // 2 + 1)
    pitch = 69 + 12 * torch.log2(bins.clamp(min=1) / 440)
    distance = (pitch[None] - torch.arange(12)[:, None] + 6) % 12 - 6
    audible = (bins >= 60) & (bins <= 2000)
    return torch.exp(-0.5 * (distance / 0.35) ** 2) * audible


def chroma(x: Tensor) -> Tensor:
    """Pitch classes [batch, 12, frames], 16 frames a second, each of length 1 (silence: 0)."""
    size, hop = 4096, RATE // 16
    energy = _chroma_bank(size) @ magnitudes(_batch(x), size, hop)
    norm = energy.square().sum(1, keepdim=True).sqrt()
    return energy / norm.clamp(min=1e-3)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, over all but the first dimension; 0 where one of them does not vary."""
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a, b))
    scale = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return (a * b).sum(1) / scale.clamp(min=1e-9)


def chroma_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Do they sound the same pitch classes at the same times? [batch], 1: the same."""
    return correlation(chroma(a), chroma(b))


def onsets(x: Tensor) -> Tensor:
    """Onset strength [batch, frames], 62.5 a second: rises of the log-mel, over all bands."""
    rises = log_mel(x, 512, 256, 40).diff(dim=2).clamp(min=0).mean(1)
    return F.avg_pool1d(rises[:, None], 3, 1, 1)[:, 0]


def onset_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Do they strike at the same times? [batch], 1: the same."""
    return correlation(onsets(a), onsets(b))


def tempo_error(a: Tensor, b: Tensor) -> Tensor:
    """By which share b runs faster or slower than a, [batch]: the stretch of b's onsets, up to 8 %
    either way, that fits a's best."""
    ours, theirs = onsets(a), onsets(b)
    stretches = 1 + torch.arange(-32, 33) * 0.0025
    fits = []
    for stretch in stretches:
        at = torch.arange(ours.shape[1]) * stretch
        left = at.floor().long().clamp(max=ours.shape[1] - 2)
        moved = torch.lerp(theirs[:, left], theirs[:, left + 1], (at - left).clamp(0, 1))
        fits.append(correlation(ours, moved))
    return (stretches[torch.stack(fits).argmax(0)] - 1).abs()
