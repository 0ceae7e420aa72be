"""Solving the flow: time grid, Euler, midpoint and regularised inversion (docs/model.md, from "Flow
matching" on; MelodyFlow, arXiv 2407.03648; the regularisation follows ReNoise, arXiv 2403.14602).

A solve is a generator: it yields the `Point` at which it needs a velocity, and that velocity is
sent back. So the same code serves one edit at a time and many in one network call.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor

from melodyflow.model.fused import can_compile
from melodyflow.model.transformer import Text

EPSILON = 1e-6  # added to variances
AHEAD = 4  # noises drawn ahead for a solve on a GPU
SWAY = -0.8  # the reference's fixed coefficient (F5-TTS's sway sampling, arXiv 2410.06885)


@dataclass(frozen=True, eq=False)
class Point:
    """A point at which a solver needs a velocity."""

    latents: Tensor  # [rows, latent, frames]
    flowstep: float
    text: Text | None
    guidance: float


Solve = Generator[
    Point, Tensor, Tensor
]  # is sent velocities [rows, latent, frames], returns latents


def time_grid(source: float, target: float, steps: int) -> list[float]:
    """The steps + 1 flowsteps (float32 values) from source to target, inclusive, denser at the
    noise end."""
    down = target <= source
    nodes = torch.arange(1, -1e-5, -1 / steps) if down else torch.arange(0, 1 + 1e-5, 1 / steps)
    nodes = nodes + SWAY * (torch.cos(math.pi / 2 * nodes) - 1 + nodes)
    low, high = min(source, target), max(source, target)
    grid: list[float] = (nodes * (high - low) + low).tolist()
    return grid


def euler(x: Tensor, grid: list[float], text: Text | None, guidance: float) -> Solve:
    """Euler's method: one velocity per step, at the step's start."""
    for here, there in pairwise(grid):
        velocity = yield Point(x, here, text, guidance)
        x = x + velocity * (there - here)
    return x


def midpoint(x: Tensor, grid: list[float], text: Text | None, guidance: float) -> Solve:
    """The midpoint method on pairs of grid intervals: a half step to the middle node, then the
    whole step with the velocity there.

    The grid is swayed, so the middle node isn't the arithmetic mean. The number of steps must be
    even.
    """
    for start, middle, end in zip(grid[::2], grid[1::2], grid[2::2], strict=False):
        velocity = yield Point(x, start, text, guidance)
        half = x + velocity * (middle - start)
        velocity = yield Point(half, middle, text, guidance)
        x = x + velocity * (end - start)
    return x


def solve(
    solver: Literal["euler", "midpoint"],
    x: Tensor,
    grid: list[float],
    text: Text | None,
    guidance: float,
) -> Solve:
    """The unregularised solve of the named solver."""
    return (midpoint if solver == "midpoint" else euler)(x, grid, text, guidance)


def regularised_inversion(
    x: Tensor,
    grid: list[float],
    text: Text | None,
    *,
    iterations: int,
    keep: int,
    lambda_kl: float,
    rng: torch.Generator,
) -> Solve:
    """Euler down the grid, each step solved by `iterations` (R) fixed-point iterations at its
    target flowstep.

    The last `keep` (K) iterations are pulled towards the statistics of the noised source at that
    flowstep and averaged with growing weights. `x`: the normalised source latents [1, latent,
    frames]; 1 <= K <= R, not both 1. Draws 2*K noises per step from `rng`, on the CPU.
    """
    source, first_kept = x, iterations - keep
    weights = keep * first_kept + keep * (keep - 1) / 2
    noises = noises_like(x, rng)
    strength = torch.tensor(lambda_kl, device=x.device)  # a float would be compiled as a constant
    for here, there in pairwise(grid):
        dt = there - here
        y, average = x, torch.zeros_like(x)
        for iteration in range(iterations):
            if iteration < first_kept:
                velocity = yield Point(y, there, text, 0.0)
            else:
                reference = (1 - there) * next(noises) + there * source
                reference = reference + 1e-5 * next(noises)
                both = yield Point(torch.cat((y, reference)), there, text, 0.0)
                velocity = kl_step(both[:1], both[1:], strength)
                average = average + velocity * (iteration / weights)
            y = x + velocity * dt
        x = x + average * dt
    return x


def kl_step(velocity: Tensor, reference: Tensor, lambda_kl: Tensor | float) -> Tensor:
    """Takes four gradient steps of size `lambda_kl` that bring the patches of a velocity closer to
    a reference's, treating both as Gaussians.

    Patches are 4 channels x 4 frames; leftover channels and frames are unchanged. The gradient of
    the absolute divergence is in closed form (pix2pix-zero's regularisation, arXiv 2302.03027,
    without autograd).
    """
    channels, frames = (size - size % 4 for size in velocity.shape[-2:])
    if not channels or not frames:
        return velocity
    v = _patches(velocity[:, :channels, :frames])
    r = _patches(reference[:, :channels, :frames])
    mean_r, var_r = r.mean(-1, keepdim=True), r.var(-1, keepdim=True) + EPSILON
    step = _fused_descent(v.device)
    for _ in range(4):
        v = step(v, mean_r, var_r, lambda_kl)
    stepped = velocity.clone()
    stepped[:, :channels, :frames] = _unpatched(v, channels, frames)
    return stepped


def _descend(v: Tensor, mean_r: Tensor, var_r: Tensor, lambda_kl: Tensor | float) -> Tensor:
    """One gradient step of patches v [..., 16] towards a mean and a variance [..., 1]."""
    mean, var = v.mean(-1, keepdim=True), v.var(-1, keepdim=True)
    shift = mean - mean_r
    divergence = torch.log(var_r / (var + EPSILON)) + (var + shift.square()) / var_r - 1
    gradient = 2 / 15 * (v - mean) * (1 / var_r - 1 / (var + EPSILON)) + 2 / 16 * shift / var_r
    return v - lambda_kl * (divergence.sign() * gradient).clamp(-100, 100)


@cache
def _fused_descent(device: torch.device) -> Callable[..., Tensor]:
    """`_descend`, compiled if possible: one launch on a GPU instead of twenty."""
    if device.type != "cuda" or not can_compile(device):
        return _descend
    return cast(Callable[..., Tensor], torch.compile(_descend, dynamic=True))


def _patches(x: Tensor) -> Tensor:
    """[batch, channels, frames] -> [batch, channels/4, frames/4, 16]."""
    batch, channels, frames = x.shape
    patches = x.reshape(batch, channels // 4, 4, frames // 4, 4).transpose(2, 3)
    return patches.reshape(batch, channels // 4, frames // 4, 16)


def _unpatched(x: Tensor, channels: int, frames: int) -> Tensor:
    patches = x.reshape(len(x), channels // 4, frames // 4, 4, 4).transpose(2, 3)
    return patches.reshape(len(x), channels, frames)


def noise_like(x: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal noise of x's shape, always drawn on the CPU, so that a seed gives the same
    noise on every device."""
    return torch.randn(x.shape, generator=rng).to(x.device)


def noises_like(x: Tensor, rng: torch.Generator) -> Iterator[Tensor]:
    """Endless `noise_like`. For a GPU, noises are drawn ahead in a separate thread, so that the
    solver never waits for the CPU. It draws more than it yields: don't use `rng` afterwards."""
    if x.device.type != "cuda":
        while True:
            yield noise_like(x, rng)
    drawn: deque[Future[Tensor]] = deque()
    while True:
        while len(drawn) < AHEAD:
            drawn.append(_drawer().submit(_draw_pinned, x.shape, rng))
        yield drawn.popleft().result().to(x.device, non_blocking=True)


@cache
def _drawer() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="noise")  # one: the draws stay in order


def _draw_pinned(shape: torch.Size, rng: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=rng, pin_memory=True)


def guided(conditional: Tensor, null: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance: (1 + g) conditional - g null."""
    return (1 + guidance) * conditional - guidance * null
