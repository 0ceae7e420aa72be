"""What the engine costs and saves, against the sequential driver: figures that anyone can make
again on their own machine. Compare ratios, which come from one run, rather than seconds."""

import argparse
import json
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from melodyflow.edit import Parameters, edit
from melodyflow.engine import Code, EditError, Engine, Job
from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import CheckpointError, load, open_checkpoint
from melodyflow.serving.service import MAX_TOKENS, warm_up

VARIATIONS = [
    *("strings", "piano", "accordion", "drums", "flute"),
    *("choir", "organ", "bass", "celesta", "banjo"),
]
PARTS = ("alone", "sharing", "crowd", "fairness")


class Timed:
    """One edit in an engine, which notes when it ended."""

    def __init__(self, engine: Engine, waveform: Tensor, parameters: Parameters) -> None:
        self.solving = threading.Event()
        self.ended = threading.Event()
        self.seconds = 0.0
        frames = engine.model.codec.config.frames(waveform.shape[-1])
        self.job = Job(parameters, frames, lambda: waveform, self)
        self._started = time.perf_counter()
        engine.acquire(frames, lambda: None)
        engine.submit(self.job)

    def progress(self, stage: str, done: int, total: int) -> None:
        if done:
            self.solving.set()

    def finished(self, waveform: Tensor, job: Job) -> None:
        self._end()

    def failed(self, error: EditError) -> None:
        if error.code != Code.CANCELLED:
            print(f"an edit failed: {error}", file=sys.stderr)
        self._end()

    def _end(self) -> None:
        self.seconds = time.perf_counter() - self._started
        self.ended.set()


class Calls:
    """The engine's network calls: their tokens and seconds."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.seconds: list[float] = []

    def in_flight(self, edits: int, frames: int) -> None:
        pass

    def evaluated(self, rows: int, tokens: int, seconds: float) -> None:
        self.tokens.append(tokens)
        self.seconds.append(seconds)

    def stage(self, name: str, seconds: float) -> None:
        pass

    def cached(self, cache_bytes: int) -> None:
        pass

    def inversion(self, found: str) -> None:
        pass


def engine_for(model: MelodyFlow, max_tokens: int | None = None) -> tuple[Engine, Calls]:
    """An engine without bounds on what is in flight, with empty caches, and its calls."""
    calls = Calls()
    engine = Engine(
        model,
        slots=100,
        max_frames=10**9,
        max_tokens=max_tokens or MAX_TOKENS[model.device.type],
        cache_bytes=2**28,
        metrics=calls,
    )
    return engine, calls


def run(
    model: MelodyFlow, edits: Sequence[tuple[Tensor, Parameters]], max_tokens: int | None = None
) -> tuple[float, Calls]:
    """Puts edits to an engine at once: seconds until the last one ended, and the calls."""
    engine, calls = engine_for(model, max_tokens)
    started = time.perf_counter()
    for one in [Timed(engine, *each) for each in edits]:
        one.ended.wait()
    seconds = time.perf_counter() - started
    engine.close(60)
    return seconds, calls


def run_beside(
    model: MelodyFlow, long: tuple[Tensor, Parameters], short: tuple[Tensor, Parameters]
) -> float:
    """Seconds of the short edit, put in once the long one is being solved."""
    engine, _ = engine_for(model)
    first = Timed(engine, *long)
    first.solving.wait()
    second = Timed(engine, *short)
    second.ended.wait()
    first.job.stop(EditError(Code.CANCELLED, "measured"))
    engine.close(600)
    return second.seconds


def sequential(model: MelodyFlow, edits: Sequence[tuple[Tensor, Parameters]]) -> float:
    """Seconds for the same edits one after the other."""
    started = time.perf_counter()
    for waveform, parameters in edits:
        edit(model, waveform, parameters)
    return time.perf_counter() - started


def clip(model: MelodyFlow, seconds: float, seed: int = 0) -> Tensor:
    """A clip of noise [channels, samples]: what it holds makes no difference to the time."""
    config = model.codec.config
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(config.channels, round(seconds * config.sample_rate), generator=generator) - 0.5
    )


def alone(model: MelodyFlow, base: Parameters, repeats: int) -> dict[str, Any]:
    """One edit in the engine against the sequential driver, in turns."""
    one = [(clip(model, 5), base)]
    pairs = [(sequential(model, one), run(model, one)[0]) for _ in range(repeats)]
    times = [statistics.median(side) for side in zip(*pairs, strict=True)]
    ratio = statistics.median(engine / plain for plain, engine in pairs)
    return {"sequential_s": times[0], "engine_s": times[1], "ratio": ratio}


def sharing(model: MelodyFlow, base: Parameters, repeats: int) -> dict[str, Any]:
    """Ten variations of one clip against ten separate edits: sharing only, then with batching."""
    edits = [(clip(model, 5), replace(base, prompt=prompt)) for prompt in VARIATIONS]
    rounds = [
        (
            sequential(model, edits),
            run(model, edits, max_tokens=1)[0],  # every solve is above the budget: one a call
            run(model, edits)[0],
        )
        for _ in range(repeats)
    ]
    return {
        "separate_s": statistics.median(plain for plain, _, _ in rounds),
        "sharing_ratio": statistics.median(shared / plain for plain, shared, _ in rounds),
        "sharing_and_batching_ratio": statistics.median(both / plain for plain, _, both in rounds),
    }


def crowd(model: MelodyFlow, base: Parameters, repeats: int) -> dict[str, Any]:
    """Eight different clips of 2 seconds at once against one after the other, and the network's
    rate against that of its matrix products alone."""
    edits = [(clip(model, 2, seed), replace(base, steps=4, seed=seed)) for seed in range(8)]
    ratios, shares = [], []
    for _ in range(repeats):
        plain = sequential(model, edits)
        together, calls = run(model, edits)
        ratios.append(plain / together)
        tokens = statistics.mode(calls.tokens)
        seconds = [s for t, s in zip(calls.tokens, calls.seconds, strict=True) if t == tokens]
        shares.append(matrix_products(model, tokens) / statistics.median(seconds))
    return {
        "speedup": statistics.median(ratios),
        "call_tokens": tokens,
        "call_s": statistics.median(seconds),
        "share_of_matrix_rate": statistics.median(shares),
    }


def fairness(model: MelodyFlow, base: Parameters, repeats: int) -> dict[str, Any]:
    """A 2-second clip beside one of the whole window: its time, less one evaluation of the long
    one, against its time alone."""
    short = (clip(model, 2), base)
    long = (clip(model, model.flow.config.segment_duration, seed=1), replace(base, seed=1, steps=4))
    rounds = []
    for _ in range(repeats):
        alone_s, _ = run(model, [short])
        _, calls = run(model, [long])
        beside_s = run_beside(model, (long[0], replace(base, seed=1, steps=128)), short)
        rounds.append((alone_s, max(calls.seconds), beside_s))
    alone_s, evaluation_s, beside_s = (
        statistics.median(side) for side in zip(*rounds, strict=True)
    )
    return {
        "alone_s": alone_s,
        "long_evaluation_s": evaluation_s,
        "beside_s": beside_s,
        "ratio": (beside_s - evaluation_s) / alone_s,
    }


def matrix_products(model: MelodyFlow, tokens: int) -> float:
    """Seconds of all matrix products of one network call of `tokens`, half of them with a text,
    and of nothing else: the network's own weights, one after the other."""
    weights: list[tuple[Tensor, int]] = []
    for name, parameter in model.flow.named_parameters():
        if parameter.dim() != 2 or name.startswith("timestep"):
            continue
        # Queries alone of the cross-attention: keys and values are made once an edit.
        query = "cross_attention.in_proj" in name
        weight = parameter[: parameter.shape[1]] if query else parameter
        weights.append((weight, tokens // 2 if "cross_attention" in name else tokens))
    inputs = {
        (rows, weight.shape[1]): torch.randn(rows, weight.shape[1], dtype=weight.dtype)
        for weight, rows in weights
    }
    times = []
    with torch.inference_mode():
        for _ in range(5):
            started = time.perf_counter()
            for weight, rows in weights:
                F.linear(inputs[rows, weight.shape[1]], weight)
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a converted checkpoint")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=int, default=25, help="of all but the crowd (default: 25)")
    parser.add_argument("--repeats", type=int, default=3, help="medians are over these")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    given = parser.parse_args()
    try:
        checkpoint = open_checkpoint(given.checkpoint)
    except CheckpointError as error:
        sys.exit(f"benchmark: {error}")
    model = load(checkpoint)
    warm_up(model)
    base = Parameters(prompt="strings", seed=0, steps=given.steps)
    measures: dict[str, Callable[[MelodyFlow, Parameters, int], dict[str, Any]]] = {
        "alone": alone,
        "sharing": sharing,
        "crowd": crowd,
        "fairness": fairness,
    }
    figures: dict[str, Any] = {
        "checkpoint": checkpoint.name,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
    }
    for part in given.parts:
        figures[part] = measures[part](model, base, given.repeats)
        for name, value in figures[part].items():
            print(f"{part:10}{name:28}{value:10.3f}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
