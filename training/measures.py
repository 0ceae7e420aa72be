"""What an edit keeps and what it becomes, as figures: melodyflow_client.measures over batches, and
mel spectrograms with gradients. Waveforms are `[batch, samples]` at `data.RATE`, of equal length
where two are compared."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from melodyflow_client import measures

FLOOR = 1e-4  # of mel magnitudes, where full scale is 1: -80 dB
TEMPO_KEPT = 0.02  # by so much an edit may run faster or slower


@cache
def window(size: int) -> Tensor:
    return torch.hann_window(size)


@cache
def mel_bank(size: int, bands: int) -> Tensor:
    return torch.from_numpy(measures.mel_bank(size, bands))


def magnitudes(x: Tensor, size: int, hop: int) -> Tensor:
    """|STFT| `[batch, size/2 + 1, frames]`; a sine of amplitude 1 reaches 1."""
    spectrum = torch.stft(x, size, hop, window=window(size).to(x.device), return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt() * (4 / size)


def log_mel(x: Tensor, size: int = 1024, hop: int = 256, bands: int = 64) -> Tensor:
    """Decibels `[batch, bands, frames]`, not below -80."""
    mel = mel_bank(size, bands).to(x.device) @ magnitudes(x, size, hop)
    return 20 * torch.log10(mel.clamp(min=FLOOR))


def log_mel_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the log-mel spectrograms in dB, `[batch]`."""
    return (log_mel(a) - log_mel(b)).abs().mean((1, 2))


def chroma_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Do they sound the same pitch classes at the same times? `[batch]`, 1: the same."""
    return _each(lambda x, y: measures.correlation(measures.chroma(x), measures.chroma(y)), a, b)


def onset_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Do they strike at the same times? `[batch]`, 1: the same."""
    return _each(lambda x, y: measures.correlation(measures.onsets(x), measures.onsets(y)), a, b)


def tempo_kept(a: Tensor, b: Tensor) -> Tensor:
    """1 where b is neither more than 2 % faster nor slower than a, `[batch]`; 0 where it fits at no
    tempo."""

    def kept(x: measures.Array, y: measures.Array) -> float:
        ratio = measures.tempo_ratio(measures.onsets(x), measures.onsets(y))
        return float(ratio is not None and abs(ratio - 1) < TEMPO_KEPT)

    return _each(kept, a, b)


def _each(
    measure: Callable[[measures.Array, measures.Array], float], a: Tensor, b: Tensor
) -> Tensor:
    pairs = zip(a.cpu().numpy(), b.cpu().numpy(), strict=True)
    return torch.tensor([measure(x, y) for x, y in pairs])
