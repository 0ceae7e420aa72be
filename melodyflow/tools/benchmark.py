"""Measures the engine against running edits one after the other. Compare the ratios, which come
from one run, rather than the seconds, which depend on the machine."""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from melodyflow.edit import Parameters, edit, warm_up
from melodyflow.errors import CheckpointError, Code, EditError
from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import load, open_checkpoint
from melodyflow.model.transformer import Row
from melodyflow.tools.edits import VARIATIONS, Calls, Timed, clip, engine_for
from melodyflow.tools.operations import product_operations, product_seconds

PARTS = ("network", "alone", "sharing", "crowd", "fairness")
TOKENS = (100, 400, 1500)  # of the network calls that are measured on their own


def run(
    model: MelodyFlow, edits: Sequence[tuple[Tensor, Parameters]], max_tokens: int | None = None
) -> tuple[float, Calls]:
    """Submits all edits to an engine at once. Returns the seconds until the last one ended, and the
    network calls."""
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
    """The duration of a short edit, submitted while a long one is being solved, in seconds."""
    engine, _ = engine_for(model)
    first = Timed(engine, *long)
    first.solving.wait()
    second = Timed(engine, *short)
    second.ended.wait()
    first.job.stop(EditError(Code.CANCELLED, "measured"))
    engine.close(600)
    return second.seconds


def sequential(model: MelodyFlow, edits: Sequence[tuple[Tensor, Parameters]]) -> float:
    """The seconds that edits take one after the other."""
    started = time.perf_counter()
    for waveform, parameters in edits:
        edit(model, waveform, parameters)
    return time.perf_counter() - started


def network(model: MelodyFlow, base: Parameters, repeats: int) -> dict[str, Any]:
    """Network calls with two rows, one with a text, compared with only their matrix products, in
    turns."""
    figures = {}
    time_embedding = model.flow.embed_times([0.5])[0.5]
    texts = (model.read_text(base.prompt), None)
    for tokens in TOKENS:
        latents = torch.randn(model.flow.config.latent_dim, tokens // 2)
        rows = [Row(latents, 0.5, time_embedding, text) for text in texts]
        calls, products = [], []
        for _ in range(repeats + 1):  # the first one warms up
            products.append(product_seconds(model, tokens))
            started = time.perf_counter()
            with torch.inference_mode():
                model.flow(rows)
            calls.append(time.perf_counter() - started)
        call = statistics.median(calls[1:])
        pairs = zip(products[1:], calls[1:], strict=True)
        figures[f"{tokens}_tokens_call_s"] = call
        figures[f"{tokens}_tokens_gflop_s"] = product_operations(model, tokens) / call / 1e9
        figures[f"{tokens}_tokens_share"] = statistics.median(best / took for best, took in pairs)
    return figures


def alone(model: MelodyFlow, base: Parameters, repeats: int) -> dict[str, Any]:
    """One edit in the engine and sequentially, in turns."""
    one = [(clip(model, 5), base)]
    pairs = [(sequential(model, one), run(model, one)[0]) for _ in range(repeats)]
    times = [statistics.median(side) for side in zip(*pairs, strict=True)]
    ratio = statistics.median(engine / plain for plain, engine in pairs)
    return {"sequential_s": times[0], "engine_s": times[1], "ratio": ratio}


def sharing(model: MelodyFlow, base: Parameters, repeats: int) -> dict[str, Any]:
    """Ten variations of one clip, compared with ten separate edits: with sharing only, then with
    batching too."""
    edits = [(clip(model, 5), replace(base, prompt=prompt)) for prompt in VARIATIONS]
    rounds = [
        (
            sequential(model, edits),
            run(model, edits, max_tokens=1)[0],  # every solve exceeds the budget: one per call
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
    """Eight different clips of 2 seconds at once and one after the other, and the share of the
    network's time that its matrix products alone would take."""
    edits = [(clip(model, 2, seed), replace(base, steps=4, seed=seed)) for seed in range(8)]
    ratios, shares = [], []
    for _ in range(repeats):
        plain = sequential(model, edits)
        together, calls = run(model, edits)
        ratios.append(plain / together)
        tokens = statistics.mode(calls.tokens)
        seconds = [s for t, s in zip(calls.tokens, calls.seconds, strict=True) if t == tokens]
        shares.append(product_seconds(model, tokens) / statistics.median(seconds))
    return {
        "speedup": statistics.median(ratios),
        "call_tokens": tokens,
        "call_s": statistics.median(seconds),
        "share": statistics.median(shares),
    }


def fairness(model: MelodyFlow, base: Parameters, repeats: int) -> dict[str, Any]:
    """A 2-second clip next to one of the whole window: its time, minus one evaluation of the long
    one, compared with its time alone."""
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a converted checkpoint")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--steps", type=int, default=25, help="of all but crowd (default: 25)")
    parser.add_argument("--repeats", type=int, default=3, help="runs per median (default: 3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    try:
        checkpoint = open_checkpoint(given.checkpoint)
    except CheckpointError as error:
        sys.exit(f"benchmark: {error}")
    model = load(checkpoint, precision=given.precision)
    warm_up(model)
    base = Parameters(prompt="strings", seed=0, steps=given.steps)
    measures: dict[str, Callable[[MelodyFlow, Parameters, int], dict[str, Any]]] = {
        "network": network,
        "alone": alone,
        "sharing": sharing,
        "crowd": crowd,
        "fairness": fairness,
    }
    figures: dict[str, Any] = {
        "checkpoint": checkpoint.name,
        "precision": given.precision,
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
