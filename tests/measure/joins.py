"""What is to be heard where a region begins and ends, and where a loop closes; each against a
control without the means that are to make it smooth.

    python -m tests.measure.joins
"""

import argparse
import math
import statistics
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from melodyflow import audio, edit
from melodyflow.audio import Audio, Waveform
from melodyflow.edit import Parameters
from melodyflow.embedded import DEMO_CHECKPOINT
from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import load, open_checkpoint

from .riff_clip import BARS, PROMPTS, from_model, riff, to_model

REACH = 8  # samples about a join that count as the join


def sharpness(waveform: Waveform) -> NDArray[np.float64]:
    """How sharp the corners of `[channels, samples]` are: the third difference's size."""
    corners: NDArray[np.float64] = np.abs(np.diff(waveform.astype(np.float64), 3)).max(axis=0)
    return corners


def sharpest(corners: NDArray[np.float64], place: int, reach: int = REACH) -> float:
    """The sharpest corner that a sample from `place - reach` to `place + reach` is a part of."""
    return float(corners[max(0, place - reach - 3) : place + reach + 1].max())


def crossfaded(source: Waveform, result: Waveform, first: int, last: int, fade: int) -> Waveform:
    """As `audio.splice`, at constant power instead of constant sum."""
    rise = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / fade).astype(np.float32)
    spliced = source.copy()
    spliced[:, first:last] = result
    for place, gains in (
        (slice(first, first + fade), rise),
        (slice(last - fade, last), rise[::-1]),
    ):
        inner = result[:, place.start - first : place.stop - first]
        spliced[:, place] = gains * inner + np.sqrt(1 - gains**2) * source[:, place]
    return spliced


def measure_regions(model: MelodyFlow, steps: int) -> None:
    """Joins of regions of the riff: the sharpest corner there, over the sharpest that source or
    result have there themselves; and how much louder the crossfade is than both on average."""
    source = riff(model)
    wave, rate = to_model(source, model), source.sample_rate
    shapes = {"hard cut": (audio.splice, 0.0)}
    shapes |= {f"raised cosine, {ms} ms": (audio.splice, ms / 1000) for ms in (2, 10, 50)}
    shapes |= {f"equal power, {ms} ms": (crossfaded, ms / 1000) for ms in (2, 10, 50)}
    corners: dict[str, list[float]] = {name: [] for name in shapes}
    levels: dict[str, list[float]] = {name: [] for name in shapes}
    for k, (start, end) in enumerate(
        [(1.0, 3.1), (2.5, 4.0), (3.3, 7.7), (4.9, 5.6), (6.1, 8.2), (0.7, 8.9)]
    ):
        prompt = PROMPTS[k % len(PROMPTS)]
        parameters = Parameters(prompt, seed=k, steps=steps, guidance=2.0, start=start, end=end)
        result = from_model(edit.edit(model, wave, parameters), source, model)
        first, last = round(start * rate), round(end * rate)
        own = [sharpness(x) for x in (source.samples, result)]
        for name, (splice, seconds) in shapes.items():
            fade = round(seconds * rate)
            spliced = splice(source.samples, result[:, first:last].copy(), first, last, fade)
            joined = sharpness(spliced)
            for inner in (slice(first, first + fade), slice(last - fade, last)):
                # All of the crossfade, not its ends alone.
                middle, reach = (inner.start + inner.stop) // 2, REACH + fade // 2
                there = max(sharpest(x, middle, reach) for x in own)
                corners[name].append(sharpest(joined, middle, reach) / there)
                if fade:
                    waves = (spliced, source.samples, result)
                    power = [float(np.square(x[:, inner]).mean()) for x in waves]
                    both = (power[1] + power[2]) / 2
                    levels[name].append(10 * math.log10(power[0] / both))
    print(f"\nRegions, {steps} steps, {len(corners['hard cut'])} joins:\n")
    print("| | sharpest corner, mean | largest | level |")
    print("|---|---|---|---|")
    for name, values in corners.items():
        level = f"{statistics.mean(levels[name]):+.1f} dB" if levels[name] else ""
        print(f"| {name} | {statistics.mean(values):.2f} | {max(values):.2f} | {level} |")


def measure_loops(model: MelodyFlow, steps: int) -> None:
    """Loops cut out of the riff: how much of a clip is less sharp than the join from its end to
    its start."""
    whole = riff(model)
    rate, bar = whole.sample_rate, whole.samples.shape[1] // BARS
    print(f"\nLoops, {steps} steps; less sharp than the join, of {len(PROMPTS)} prompts:\n")
    print("| | `loop` | without |")
    print("|---|---|---|")
    for seconds in (0.25, 1.0, 2.0, 4.0):
        samples = closing(whole.samples, round(seconds * rate), bar // 3)
        source = Audio(samples, rate, whole.subtype)
        cells = []
        for loop in (True, False):
            shares = []
            for seed, prompt in enumerate(PROMPTS):
                parameters = Parameters(prompt, seed=seed, steps=steps, guidance=2.0, loop=loop)
                decoded = edit.edit(model, to_model(source, model, loop=loop), parameters)
                shares.append(join_rank(from_model(decoded, source, model, loop=loop)))
            cells.append(f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %")
        own = f"{100 * join_rank(samples):.0f} %"
        print(f"| {seconds:g} s, the source itself {own} | {' | '.join(cells)} |")


def closing(waveform: Waveform, samples: int, begin: int) -> Waveform:
    """A loop of so many samples: its last 50 ms go over into what comes before its start."""
    fade = 2400  # 50 ms at the riff's rate
    loop = waveform[:, begin : begin + samples].copy()
    rise = np.linspace(0, 1, fade, dtype=np.float32)
    loop[:, -fade:] += rise * (waveform[:, begin - fade : begin] - loop[:, -fade:])
    return loop


def join_rank(waveform: Waveform) -> float:
    """The share of places whose sharpest corner is less sharp than that where it closes."""
    samples = waveform.shape[1]
    corners = sharpness(
        np.concatenate([waveform[:, -2 * REACH :], waveform, waveform[:, : 2 * REACH]], 1)
    )
    places = range(2 * REACH, 2 * REACH + samples)
    here = [sharpest(corners, place) for place in places]
    return float(np.mean(np.array(here) < here[0]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/measure joins", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--checkpoint", type=Path, default=DEMO_CHECKPOINT)
    parser.add_argument("--steps", type=int, default=25, help="of the solver (default: 25)")
    given = parser.parse_args()
    model = load(open_checkpoint(given.checkpoint))
    with torch.inference_mode():
        measure_regions(model, given.steps)
        measure_loops(model, given.steps)


if __name__ == "__main__":
    main()
