"""How the network sees a clip that is longer than its window (after MultiDiffusion, arXiv
2302.08113).

Solvers work on one sequence of latents, whatever its length: one noise, one guidance, one step for
all of it. Only the network, which was trained on a window of frames, is asked in overlapping
windows, and its velocities are blended into one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

HANDOVERS = 4  # neighbours hand over within a 1/HANDOVERS of the window


@dataclass(frozen=True, eq=False)
class Window:
    """What the network is asked of at once."""

    start: int  # its first frame
    weights: Tensor  # [frames of the window], on the CPU: its share in the velocity of each

    @property
    def frames(self) -> slice:
        return slice(self.start, self.start + len(self.weights))


class Windows:
    """The windows of one sequence: evenly spaced, the first begins with it, the last ends with it.
    Where all of it fits into one, that one is the sequence itself."""

    def __init__(self, frames: int, window: int) -> None:
        """`frames`: of the sequence; `window`: the most the network takes at once. A pure
        function of the two."""
        self.frames = frames
        self._windows = _windows(frames, window)

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def lengths(self) -> list[int]:
        """Frames of each window."""
        return [len(window.weights) for window in self._windows]

    def cut(self, latents: Tensor) -> list[Tensor]:
        """The sequence [..., frames] as each window sees it."""
        return [latents[..., window.frames] for window in self._windows]

    def blend(self, velocities: Sequence[Tensor]) -> Tensor:
        """One velocity [..., frames] of those that each window gave for its part."""
        if len(self) == 1:
            return velocities[0]
        first = velocities[0]
        blended = first.new_zeros((*first.shape[:-1], self.frames))
        for window, velocity in zip(self._windows, velocities, strict=True):
            blended[..., window.frames] += window.weights.to(velocity.device) * velocity
        return blended


def _windows(frames: int, window: int) -> list[Window]:
    if frames <= window:
        return [Window(0, torch.ones(frames))]
    handover = max(1, window // HANDOVERS)
    count = 1 + math.ceil((frames - window) / (window - handover))
    starts = [(frames - window) * k // (count - 1) for k in range(count)]
    # Neighbours hand over in the middle of what they share: there both have seen the most.
    middles = [(a + window + b) / 2 for a, b in pairwise(starts)]
    windows = []
    for k, start in enumerate(starts):
        weights = torch.ones(window)
        if k > 0:
            weights *= _rise(start, window, middles[k - 1], handover)
        if k < count - 1:
            weights *= 1 - _rise(start, window, middles[k], handover)
        windows.append(Window(start, weights))
    return windows


def _rise(start: int, frames: int, middle: float, length: int) -> Tensor:
    """From 0 to 1 around `middle` within `length` frames, as a raised cosine; its largest slope
    is pi / (2 * length) a frame."""
    position = (torch.arange(start, start + frames) + 0.5 - middle) / length + 0.5
    return torch.sin(math.pi / 2 * position.clamp(0, 1)).square()
