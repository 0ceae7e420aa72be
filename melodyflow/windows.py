"""Windows: how the network sees clips longer than it was trained on (after MultiDiffusion, arXiv
2302.08113). Regions: how a part of a clip is solved while the rest stays unchanged.

Solvers work on one sequence of latents of any length, with one noise, one guidance and one step for
all of it. Only the network, which was trained on a fixed window, is called on overlapping windows;
their velocities are blended into one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

HANDOVERS = 4  # neighbours crossfade over 1/HANDOVERS of the window
SHORTEST_WAY = 1e-7  # least distance of a flowstep to 1: below float32's resolution


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of frames that one network row covers."""

    start: int  # its first frame
    weights: Tensor  # [frames of the window], on the CPU: its share in each frame's velocity

    def laps(self, frames: int) -> Iterator[tuple[slice, slice]]:
        """Its places in a sequence of `frames`, each with its own frames that lie there. It has
        several places if it wraps around a ring's end."""
        here, end = self.start, self.start + len(self.weights)
        while here < end:
            there = min(end, (here // frames + 1) * frames)
            place = here % frames
            yield slice(place, place + there - here), slice(here - self.start, there - self.start)
            here = there


@dataclass(frozen=True, eq=False)
class Region:
    """The frames of a sequence to solve for. The others are led back to the source, and the network
    sees them on the way."""

    source: Tensor  # [1, latent, frames], normalised
    first: int
    last: int  # exclusive

    def hold(self, velocity: Tensor, latents: Tensor, flowstep: float) -> Tensor:
        """The velocity [rows, latent, frames] at these latents. Outside the region it is replaced
        by the straight path that reaches the source at flowstep 1."""
        held = (self.source - latents) / max(1 - flowstep, SHORTEST_WAY)
        held[..., self.first : self.last] = velocity[..., self.first : self.last]
        return held


class Windows:
    """The windows of one sequence, evenly spaced from its start to its end. If the sequence fits
    into one window, the window is the whole sequence. On a ring they wrap around; a window of a
    short ring covers it twice."""

    def __init__(
        self, frames: int, window: int, region: Region | None = None, *, ring: bool = False
    ) -> None:
        """`frames`: of the sequence; `window`: the most frames the network takes. Windows without a
        share in the `region` are left out. A ring has no region."""
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
        """Blends the windows' velocities into one [..., frames]. Valid only inside the region, if
        there is one."""
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
    # Neighbours crossfade in the middle of their overlap, where both see the most context.
    middles = [(a + window + b) / 2 for a, b in pairwise(starts)]
    ends = zip([None, *middles], starts, [*middles, None], strict=True)
    return [_window(start, window, rise, fall, handover) for rise, start, fall in ends]


def _around(frames: int, window: int) -> list[Window]:
    """The windows of a ring: each as long as the network allows, at most two laps."""
    handover = max(1, window // HANDOVERS)
    count = math.ceil(frames / (window - handover))
    length, handover = min(window, 2 * frames), min(handover, frames)
    starts = [frames * k // count for k in range(count + 1)]  # the last is the first plus a lap
    middles = [(a + length + b) / 2 for a, b in pairwise(starts)]
    ends = zip([middles[-1] - frames, *middles], starts, middles, strict=False)
    return [_window(start, length, rise, fall, handover) for rise, start, fall in ends]


def _window(
    start: int, frames: int, rise: float | None, fall: float | None, handover: int
) -> Window:
    """A window that fades in around `rise` and fades out around `fall`, over `handover` frames
    each."""
    weights = torch.ones(frames)
    if rise is not None:
        weights *= _rise(start, frames, rise, handover)
    if fall is not None:
        weights *= 1 - _rise(start, frames, fall, handover)
    return Window(start, weights)


def _rise(start: int, frames: int, middle: float, length: int) -> Tensor:
    """A raised cosine from 0 to 1 around `middle`, `length` frames long; its steepest slope is
    pi / (2 * length) per frame."""
    position = (torch.arange(start, start + frames) + 0.5 - middle) / length + 0.5
    return torch.sin(math.pi / 2 * position.clamp(0, 1)).square()
