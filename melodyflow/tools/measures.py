"""Times work on a device, and measures how far apart two waveforms are."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def wait(device: torch.device) -> None:
    """Waits until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(device: torch.device, work: Callable[[], Any], repeats: int) -> float:
    """The mean seconds of several runs of `work`, after one warm-up."""
    work()
    wait(device)
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    wait(device)
    return (time.perf_counter() - started) / repeats


def cosine(a: Tensor, b: Tensor) -> float:
    """Of two tensors of one shape."""
    return float(F.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0))


def log_spectral_distance(a: Tensor, b: Tensor) -> float:
    """The RMS difference of two waveforms' [..., samples] log power spectra, averaged over frames,
    in dB (2048-sample Hann frames, floor 100 dB below the first one's peak)."""
    spectra = []
    for x in (a, b):
        window = torch.hann_window(2048, device=x.device)
        x = x.reshape(-1, x.shape[-1])
        spectra.append(torch.stft(x, 2048, 512, window=window, return_complex=True).abs().square())
    floor = 1e-10 * spectra[0].max()
    first, second = (10 * torch.log10(x.clamp(min=floor)) for x in spectra)
    return float((first - second).square().mean(-2).sqrt().mean())


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    ordered = sorted(seconds)
    return {
        "p50_s": statistics.median(ordered),
        "p95_s": ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)],
        "runs": len(ordered),
    }
