"""How near previews and drafts are to the result, and what previews cost.

    python -m tests.measure.previews [--checkpoint DIR | --random SIZE] [--seconds S] [--prompts N]
        [--plot FILE] [--cost]

Nearness: the riff or its beginning, three prompts, 25 steps; log-spectral distance to the result,
correlation with it of chroma and onsets, and how much noisier and less steady it is. Beside them
the source's own, and those of a draft: the same seed with fewer steps. Cost: edits with four
previews and without, in turns.
"""

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from melodyflow import edit
from melodyflow.contract import preview_steps
from melodyflow.edit import Parameters
from melodyflow.embedded import DEMO_CHECKPOINT
from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import load, open_checkpoint
from melodyflow.tools.edits import Timed, engine_for
from melodyflow.tools.make_checkpoint import SIZES, random_model
from melodyflow.tools.measures import log_spectral_distance
from melodyflow.windows import Windows
from melodyflow_client.measures import Array, chroma, correlation, levelled, magnitudes, onsets

from .riff_clip import PROMPTS, riff, to_model

STEPS = 25
DRAFTS = (2, 4, 6, 8, 12)  # steps
RIFF_SECONDS = 9.6
TURNS = 5


@torch.inference_mode()
def estimates(model: MelodyFlow, wave: Tensor, parameters: Parameters) -> Iterator[Tensor]:
    """After each evaluation of the generation, the decoded estimate; at last the result."""
    rng = torch.Generator().manual_seed(parameters.seed)
    source = edit.source_latents(model, model.encode(wave[None]), rng)
    times = model.flow.embed_times(edit.flowsteps(parameters))
    windows = Windows(source.shape[-1], model.max_frames)
    down = edit.inversion(source, parameters, None, rng)
    inverted = edit.drive(model.network, down, times, windows)
    solve = edit.generation(inverted, parameters, model.read_text(parameters.prompt))
    try:
        point = next(solve)
        while True:
            answers = [model.network(rows) for rows in edit.rows(point, times, windows)]
            velocity = edit.velocity(point, answers, windows)
            yield model.decode(point.latents + (1 - point.flowstep) * velocity)[0]
            point = solve.send(velocity)
    except StopIteration as end:
        yield model.decode(end.value)[0]


def nearness(heard: Tensor, result: Tensor) -> tuple[float, ...]:
    """Log-spectral distance in dB; correlation of chroma and of onsets; how much noisier it is: dB
    of spectral flatness; how much less steady: the ratio of mean rises in the spectrum."""
    one, two = (levelled(x.mean(0).numpy().astype(np.float64)) for x in (heard, result))
    rises = [onsets(x) for x in (one, two)]
    return (
        log_spectral_distance(result, heard),
        correlation(chroma(one), chroma(two)),
        correlation(*rises),
        flatness(one) - flatness(two),
        float(rises[0].mean() / rises[1].mean()),
    )


def flatness(x: Array) -> float:
    """In dB, of power spectra: 0 is white noise."""
    power = magnitudes(x, 1024, 256) ** 2
    return float(10 * np.log10(np.exp(np.log(power + 1e-12).mean(0)).sum() / power.mean(0).sum()))


def measure_nearness(model: MelodyFlow, seconds: float, prompts: int, plot: Path | None) -> None:
    wave = to_model(riff(model), model)[:, : round(seconds * model.codec.config.sample_rate)]
    found: dict[str, list[tuple[float, ...]]] = {}
    for seed, prompt in enumerate(PROMPTS[:prompts]):
        parameters = Parameters(prompt, seed=seed, steps=STEPS)
        *formed, result = estimates(model, wave, parameters)
        size = result.shape[-1]
        source = torch.nn.functional.pad(wave, (0, size - wave.shape[-1]))
        found.setdefault("the source itself", []).append(nearness(source, result))
        for number, heard in enumerate(formed[:-1], 1):
            name = f"preview after step {number} of {STEPS}"
            found.setdefault(name, []).append(nearness(heard, result))
        for steps in DRAFTS:
            drafted = edit.edit(model, wave, replace(parameters, steps=steps))
            found.setdefault(f"draft of {steps} steps", []).append(nearness(drafted, result))
    shown = {f"preview after step {n} of {STEPS}" for n in (1, *preview_steps(4, STEPS))}
    means = {
        name: tuple(map(statistics.mean, zip(*each, strict=True))) for name, each in found.items()
    }
    print("| what | log-spectral distance, dB | chroma | onsets | noisier, dB | rises |")
    print("|---|---|---|---|---|---|")
    for name, (distance, notes, strokes, noisier, rises) in means.items():
        if "preview" not in name or name in shown:
            print(
                f"| {name} | {distance:.1f} | {notes:.3f} | {strokes:.3f} | {noisier:.1f} "
                f"| x {rises:.2f} |"
            )
    if plot:
        draw(means, plot)


def draw(means: dict[str, tuple[float, ...]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    titles = ("Log-spectral distance to the result, dB", "Chroma correlation with the result")
    for index, (axes, title) in enumerate(zip((left, right), titles, strict=True)):
        previews = [each[index] for name, each in means.items() if "preview" in name]
        drafts = [means[f"draft of {steps} steps"][index] for steps in DRAFTS]
        axes.plot(range(1, STEPS), previews, "o-", label=f"preview after a step of {STEPS}")
        axes.plot(DRAFTS, drafts, "s--", label="draft of so many steps")
        axes.axhline(means["the source itself"][index], color="gray", label="the source")
        axes.set(title=title, xlabel="steps")
        axes.grid(alpha=0.3)
    left.legend()
    figure.savefig(file, dpi=110)


def measure_cost(model: MelodyFlow) -> None:
    """Seconds of edits of eight seconds with and without previews, in turns."""
    wave = to_model(riff(model), model)
    for together in (1, 8):
        seconds: dict[int, list[float]] = {0: [], 4: []}
        came: list[int] = []
        for turn in range(TURNS + 1):
            for previews, kept in seconds.items():
                engine, _ = engine_for(model)
                started = perf_counter()
                edits = [
                    Timed(engine, wave, Parameters(PROMPTS[n % 3], seed=n), previews)
                    for n in range(together)
                ]
                for one in edits:
                    one.ended.wait()
                if turn:  # the first one warms up
                    kept.append(perf_counter() - started)
                    came += [len(one.previews) for one in edits if previews]
                engine.close(60)
        plain, with_previews = (statistics.median(each) for each in seconds.values())
        print(
            f"{together} at once: {plain:.2f} s without, {with_previews:.2f} s with 4 previews "
            f"({with_previews / plain - 1:+.1%}); {statistics.mean(came):.1f} of them came"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--checkpoint", type=Path, default=DEMO_CHECKPOINT)
    which.add_argument("--random", choices=SIZES, help="random weights of a size instead")
    parser.add_argument("--seconds", type=float, default=RIFF_SECONDS, help="of the riff")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--cost", action="store_true", help="the cost instead of the nearness")
    arguments = parser.parse_args()
    if arguments.random:
        model = random_model(arguments.random)
    else:
        model = load(open_checkpoint(arguments.checkpoint))
    if arguments.cost:
        measure_cost(model)
    else:
        measure_nearness(model, arguments.seconds, arguments.prompts, arguments.plot)


if __name__ == "__main__":
    main()
