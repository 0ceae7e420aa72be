"""What the seams of windows add to long clips, with the blend and with hard cuts as a control.

    python -m tests.measure.seams

Each edit is solved three times from the same noise: with the blend, and with hard cuts at two
places some frames apart. So at each seam of one cut the other says how it is without a seam, and
what the seam adds is found however much the music itself moves there.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import soxr
import torch
from torch import Tensor

from melodyflow import edit, windows
from melodyflow.audio import Audio, Waveform
from melodyflow.edit import Parameters
from melodyflow.embedded import DEMO_CHECKPOINT
from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import load, open_checkpoint
from melodyflow.windows import Windows

from .riff_clip import BARS, PROMPTS, riff, to_model

CLIP_SECONDS = 80.0
APART = 50  # frames from the middle of an overlap to where a control cuts


def song(source: Audio, seconds: float, seed: int) -> Audio:
    """The bars of the riff in random order, each transposed at random: no place is like another."""
    rng = np.random.default_rng(seed)
    rate = source.sample_rate
    ramp = np.linspace(0, 1, round(0.005 * rate), dtype=np.float32)
    bars: list[Waveform] = []
    while sum(bar.shape[1] for bar in bars) < seconds * rate:
        bar = np.array_split(source.samples, BARS, axis=1)[rng.integers(BARS)].T
        bar = soxr.resample(bar, rate, rate * 2 ** (-rng.integers(-5, 5) / 12)).T.copy()
        bar[:, : len(ramp)] *= ramp
        bar[:, -len(ramp) :] *= ramp[::-1]
        bars.append(bar)
    whole = np.concatenate(bars, axis=1)[:, : round(seconds * rate)]
    return Audio(np.ascontiguousarray(whole, np.float32), rate, source.subtype)


def cutting(offset: int) -> Callable[[int, int, float, int], Tensor]:
    """In place of the raised cosine: all at once, so many frames after the middle."""

    def rise(start: int, frames: int, middle: float, length: int) -> Tensor:
        return (torch.arange(start, start + frames) + 0.5 > middle + offset).float()

    return rise


def seams(frames: int, window: int, offset: int) -> list[int]:
    """The frames at which another window takes over in a hard cut."""
    with mock.patch.object(windows, "_rise", cutting(offset)):
        cut = Windows(frames, window)
    owner = cut.blend([torch.full((window,), float(k)) for k in range(len(cut))])
    return [int(frame) + 1 for frame in owner.diff().nonzero()]


@dataclass(frozen=True)
class Place:
    """A frame of one sequence against the same frame of another that has no seam there. `added`:
    how far the steps to it, from the frame before, lie apart, over the other's; `size`: the one
    step's length over the other's."""

    added: float
    size: float


def spectra(waveform: Tensor, hop: int) -> Tensor:
    """Log magnitudes [bins, frames] of a waveform [channels, samples], a spectrum a frame."""
    frames = waveform.mean(0).unfold(0, 2 * hop, hop) * torch.hann_window(2 * hop)
    return torch.log(torch.fft.rfft(frames).abs() + 1e-3).T


def at(here: Tensor, other: Tensor, frames: Iterable[int]) -> list[Place]:
    """Two sequences [features, frames] against each other at frames."""
    found = []
    for frame in frames:
        step, without = (x[:, frame] - x[:, frame - 1] for x in (here, other))
        length = float(without.norm())
        found.append(Place(float((step - without).norm()) / length, float(step.norm()) / length))
    return found


def measure(model: MelodyFlow, steps: int, cases: int) -> None:
    """Prints what is added at seams, in the latents and in the spectra of what is heard."""
    hop, window = model.codec.config.hop, model.max_frames
    found: dict[tuple[str, str], list[Place]] = {}
    for case in range(cases):
        wave = to_model(song(riff(model), CLIP_SECONDS, case), model)
        parameters = Parameters(PROMPTS[case % len(PROMPTS)], seed=case, steps=steps, guidance=2.0)
        posterior = model.encode(wave[None])
        solved = [edit.edit_latents(model, posterior, parameters)]
        for offset in (-APART, APART):
            with mock.patch.object(windows, "_rise", cutting(offset)):
                solved.append(edit.edit_latents(model, posterior, parameters))
        heard = [spectra(model.decode(latents)[0], hop) for latents in solved]
        for what, (blend, *cuts) in (("latents", [x[0] for x in solved]), ("sound", heard)):
            for cut, other, offset in ((*cuts, -APART), (*cuts[::-1], APART)):
                places = seams(posterior.shape[-1], window, offset)
                far = [place - window // 3 for place in places]  # one window alone
                for name, sequence, frames in (
                    ("hard cut", cut, places),
                    ("blend", blend, places),
                    ("no seam", cut, far),
                ):
                    found.setdefault((what, name), []).extend(at(sequence, other, frames))
        print(f"edit {case + 1} of {cases} is done", flush=True)
    print(f"\nWindows, {CLIP_SECONDS:g} s, {steps} steps, {cases} edits:\n")
    print("| | places | added, median | largest | length of the step |")
    print("|---|---|---|---|---|")
    for (what, name), places_found in found.items():
        added = [place.added for place in places_found]
        size = statistics.geometric_mean(place.size for place in places_found)
        print(
            f"| {what}, {name} | {len(added)} | {100 * statistics.median(added):.1f} % "
            f"| {100 * max(added):.1f} % | {size:.3f} |"
        )
    for what in ("latents", "sound"):
        pairs = list(zip(found[what, "hard cut"], found[what, "blend"], strict=True))
        more = sum(cut.added > blend.added for cut, blend in pairs)
        chance = sign_test(more, len(pairs))
        print(f"{what}: the hard cut adds more at {more} of {len(pairs)} seams, p = {chance:.1g}")


def sign_test(more: int, pairs: int) -> float:
    """The chance of a split as uneven, where there is no difference."""
    tail = sum(math.comb(pairs, k) for k in range(max(more, pairs - more), pairs + 1))
    return min(1.0, 2 * tail / 2**pairs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/measure seams", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--checkpoint", type=Path, default=DEMO_CHECKPOINT)
    parser.add_argument("--steps", type=int, default=8, help="of the solver (default: 8)")
    parser.add_argument("--edits", type=int, default=2, help="with a clip of its own each (2)")
    given = parser.parse_args()
    with torch.inference_mode():
        measure(load(open_checkpoint(given.checkpoint)), given.steps, given.edits)


if __name__ == "__main__":
    main()
