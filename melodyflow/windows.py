"""How the network sees a clip that is longer than its window (after MultiDiffusion, arXiv
2302.08113), and how a part of a clip is solved while the rest stays.

Solvers work on one sequence of latents, whatever its length: one noise, one guidance, one step for
all of it. Only the network, which was trained on a window of frames, is asked in overlapping
windows, and its velocities are blended into one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

HANDOVERS = 4  # neighbours hand over within a 1/HANDOVERS of the window
SHORTEST_WAY = 1e-7  # of a flowstep to 1: float32 has none between them


@dataclass(frozen=True, eq=False)
class Window:
    """What the network is asked of at once."""

    start: int  # its first frame
    weights: Tensor  # [frames of the window], on the CPU: its share in the velocity of each

    def laps(self, frames: int) -> Iterator[tuple[slice, slice]]:
        """Where it lies in a sequence of so many frames, and which of its own frames lie there: in
        several places where it goes on past a ring's end."""
        here, end = self.start, self.start + len(self.weights)
        while here < end:
            there = min(end, (here // frames + 1) * frames)
            place = here % frames
            yield slice(place, place + there - here), slice(here - self.start, there - self.start)
            here = there


@dataclass(frozen=True, eq=False)
class Region:
    """The frames of a sequence that are solved for. The others arrive at the source, and the
    network sees them on their way."""

    source: Tensor  # [1, latent, frames], normalised
    first: int
    last: int  # exclusive

    def hold(self, velocity: Tensor, latents: Tensor, flowstep: float) -> Tensor:
        """The velocity [rows, latent, frames] at these latents, outside replaced by the straight
        way that is at the source when the flowstep is 1."""
        held = (self.source - latents) / max(1 - flowstep, SHORTEST_WAY)
        held[..., self.first : self.last] = velocity[..., self.first : self.last]
        return held


class Windows:
    """The windows of one sequence: evenly spaced, the first begins with it, the last ends with it.
    Where all of it fits into one, that one is the sequence itself. On a ring they wrap around, and
    a short one is seen twice over by one window."""

    def __init__(
        self, frames: int, window: int, region: Region | None = None, *, ring: bool = False
    ) -> None:
        """`frames`: of the sequence; `window`: the most the network takes at once. Windows without
        a share in the `region` are left out; there is none on a ring."""
        self.frames = frames
        self.region = region
        self._windows = _around(frames, window) if ring else _along(frames, window)
        if region is not None:
            self._windows = [seen for seen in self._windows if _has_share(seen, region)]
        self._shares = [window.weights for window in self._windows]  # on the velocities' device

    def __len__(self) -> int:
        return len(self._windows)

    def cut(self, latents: Tensor) -> list[Tensor]:
        """The sequence [..., frames] as each window sees it."""
        seen = []
        for window in self._windows:
            parts = [latents[..., place] for place, _ in window.laps(self.frames)]
            seen.append(torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0])
        return seen

    def blend(self, velocities: Sequence[Tensor]) -> Tensor:
        """One velocity [..., frames] of those that each window gave for its part; true within the
        region, if there is one."""
        first = velocities[0]
        if len(self) == 1 and first.shape[-1] == self.frames:
            return first
        blended = first.new_zeros((*first.shape[:-1], self.frames))
        if self._shares[0].device != first.device:
            self._shares = [share.to(first.device) for share in self._shares]
        for window, share, velocity in zip(self._windows, self._shares, velocities, strict=True):
            share = share * velocity
            for place, own in window.laps(self.frames):
                blended[..., place] += share[..., own]
        return blended


def _has_share(window: Window, region: Region) -> bool:
    begin = max(0, region.first - window.start)
    end = max(0, region.last - window.start)
    return bool(window.weights[begin:end].any())


def _along(frames: int, window: int) -> list[Window]:
    """The windows of a sequence with two ends."""
    if frames <= window:
        return [Window(0, torch.ones(frames))]
    handover = max(1, window // HANDOVERS)
    count = 1 + math.ceil((frames - window) / (window - handover))
    starts = [(frames - window) * k // (count - 1) for k in range(count)]
    # Neighbours hand over in the middle of what they share: there both have seen the most.
    middles = [(a + window + b) / 2 for a, b in pairwise(starts)]
    ends = zip([None, *middles], starts, [*middles, None], strict=True)
    return [_window(start, window, rise, fall, handover) for rise, start, fall in ends]


def _around(frames: int, window: int) -> list[Window]:
    """The windows of a ring: each as long as the network takes, or two laps."""
    handover = max(1, window // HANDOVERS)
    count = math.ceil(frames / (window - handover))
    length, handover = min(window, 2 * frames), min(handover, frames)
    starts = [frames * k // count for k in range(count + 1)]  # the last is the first, a lap later
    middles = [(a + length + b) / 2 for a, b in pairwise(starts)]
    ends = zip([middles[-1] - frames, *middles], starts, middles, strict=False)
    return [_window(start, length, rise, fall, handover) for rise, start, fall in ends]


def _window(
    start: int, frames: int, rise: float | None, fall: float | None, handover: int
) -> Window:
    """A window that takes over around `rise` and hands over around `fall`, within so many
    frames."""
    weights = torch.ones(frames)
    if rise is not None:
        weights *= _rise(start, frames, rise, handover)
    if fall is not None:
        weights *= 1 - _rise(start, frames, fall, handover)
    return Window(start, weights)


def _rise(start: int, frames: int, middle: float, length: int) -> Tensor:
    """From 0 to 1 around `middle` within `length` frames, as a raised cosine; its largest slope
    is pi / (2 * length) a frame."""
    position = (torch.arange(start, start + frames) + 0.5 - middle) / length + 0.5
    return torch.sin(math.pi / 2 * position.clamp(0, 1)).square()
