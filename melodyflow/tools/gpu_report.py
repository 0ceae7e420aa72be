"""Measures the model on a GPU, in one command with a time limit: parity with the reference, the
error of bf16 against fp32, times, rates and memory, and where the time goes.

It needs Python, torch, numpy and safetensors, but no Triton, network or checkpoint (the weights are
random, drawn on the device). Each part's figures are saved as soon as it is done.
"""

import argparse
import copy
import os
import statistics
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from melodyflow.edit import Parameters, edit_latents, warm_up
from melodyflow.engine import MAX_TOKENS
from melodyflow.errors import CheckpointError
from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import Precision
from melodyflow.model.fused import FusedFlow
from melodyflow.model.transformer import Network, Row
from melodyflow.tools import parity
from melodyflow.tools.edits import VARIATIONS, Bench, clip
from melodyflow.tools.make_checkpoint import SIZES
from melodyflow.tools.measures import (
    cosine,
    log_spectral_distance,
    percentiles,
    timed,
    wait,
)
from melodyflow.tools.operations import call_operations, product_operations, product_seconds
from melodyflow.tools.report import Report, plot


def machine(device: torch.device) -> dict[str, Any]:
    figures: dict[str, Any] = {"torch": torch.__version__, "python": sys.version.split()[0]}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        figures |= {
            "gpu": properties.name,
            "memory_gib": properties.total_memory / 2**30,
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
        n = 8192
        a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
        figures["bf16_8192_tflops"] = 2 * n**3 / timed(device, lambda: a @ b, 20) / 1e12
        a, b = a.float(), b.float()
        figures["fp32_8192_tflops"] = 2 * n**3 / timed(device, lambda: a @ b, 3) / 1e12
    return figures


def fixtures(folders: list[Path], device: torch.device, precision: Precision) -> dict[str, Any]:
    """The parity fixtures: how many are held in fp32, and the largest error; in bf16 the error
    alone."""
    figures: dict[str, Any] = {}
    for folder in folders:
        try:
            done = list(parity.run(folder, str(device), precision))
        except (CheckpointError, ImportError) as error:
            figures[folder.name] = {"skipped": str(error)}
            continue
        worst = max(done, key=lambda comparison: comparison.relative)
        figures[folder.name] = {
            "cases": len(done),
            "held": sum(comparison.held for comparison in done),
            "worst": worst.case,
            "relative_error": worst.relative,
        }
        if precision == "bf16":
            del figures[folder.name]["held"]
    return figures


@torch.inference_mode()
def drift(exact: MelodyFlow, fast: MelodyFlow, seconds: float, steps: int) -> dict[str, Any]:
    """One whole edit by the flow in fp32, by the fast model's flow, and by its fused form."""
    parameters = Parameters(prompt="strings", seed=0, steps=steps)
    posterior = exact.encode(clip(exact, seconds)[None].to(exact.device))
    fused = fast.network
    if not isinstance(fused, FusedFlow):
        fused = FusedFlow(fast.flow, fast.max_frames)
    latents = edit_latents(through(exact, exact.flow), posterior, parameters)
    audio = exact.decode(latents)
    figures = {}
    for name, network in (("flow", fast.flow), ("fused", fused)):
        model = through(fast, network)
        wait(exact.device)
        started = time.perf_counter()
        found = edit_latents(model, posterior, parameters)
        wait(exact.device)
        took = time.perf_counter() - started
        heard = model.decode(found)
        figures[name] = {
            "latents_cosine": cosine(found, latents),
            "audio_cosine": cosine(heard, audio),
            "log_spectral_distance_db": log_spectral_distance(audio, heard),
            "largest_error": float((found - latents).abs().max() / latents.abs().max()),
            "solve_s": took,
        }
    return figures


def through(model: MelodyFlow, network: Network) -> MelodyFlow:
    """The model with a different network."""
    other = copy.copy(model)
    other.__dict__["network"] = network
    return other


def warmed(model: MelodyFlow) -> dict[str, Any]:
    """What a server does before its first edit: mostly compiling."""
    started = time.perf_counter()
    warm_up(model, MAX_TOKENS[model.device.type])
    wait(model.device)
    return {"warm_up_s": time.perf_counter() - started}


def alone(model: MelodyFlow, base: Parameters, seconds: float, runs: int) -> dict[str, Any]:
    """One edit at a time: of a new clip, and of one seen before."""
    bench = Bench(model)
    first = replace(base, prompt="warm-up")
    bench.run([(clip(model, seconds, 999), first)])
    figures: dict[str, Any] = {}
    for name in ("cold", "repeat"):
        begin = len(bench.calls.seconds)
        took, stages = [], []
        for i in range(runs):
            source = clip(model, seconds, i if name == "cold" else 999)
            done, _ = bench.run([(source, replace(base, prompt=f"{name} {i}", seed=base.seed))])
            took.append(done[0].seconds)
            stages.append(done[0].job.seconds)
        figures[name] = percentiles(took) | bench.rate(begin)
        figures[name] |= {
            f"{stage}_s": statistics.median(each[stage] for each in stages) for stage in stages[0]
        }
    bench.engine.close(60)
    return figures


def crowd(model: MelodyFlow, base: Parameters, seconds: float, sizes: list[int]) -> dict[str, Any]:
    """Many different clips at once, the second time: like a server that has been up for a while."""
    figures: dict[str, Any] = {}
    for count in sizes:
        bench = Bench(model)
        edits = [
            (clip(model, seconds, seed), replace(base, seed=seed, prompt=VARIATIONS[seed % 10]))
            for seed in range(count)
        ]
        bench.run(edits)  # the sizes of its calls are recorded now
        bench.engine.close(60)
        bench = Bench(model)
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
        done, took = bench.run(edits)
        figures[str(count)] = {
            "wall_s": took,
            "edits_a_second": count / took,
            "p50_s": statistics.median(each.seconds for each in done),
            **bench.rate(0),
            "loop_busy": sum(bench.calls.seconds) / took,
        }
        if model.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(model.device)
            figures[str(count)]["peak_gib"] = peak / 2**30
        bench.engine.close(60)
    return figures


def together(model: MelodyFlow, base: Parameters, seconds: float, count: int) -> dict[str, Any]:
    """The same edits alone and all at once: the largest difference of their audio."""
    edits = [(clip(model, seconds, seed), replace(base, seed=seed)) for seed in range(count)]
    bench = Bench(model)
    alone_ = [bench.run([each])[0][0].waveform for each in edits]
    bench.engine.close(60)
    bench = Bench(model)
    at_once = [each.waveform for each in bench.run(edits)[0]]
    bench.engine.close(60)
    pairs = list(zip(alone_, at_once, strict=True))
    return {
        "edits": count,
        "least_audio_cosine": min(cosine(a, b) for a, b in pairs),
        "largest_error": max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs),
    }


def variations(model: MelodyFlow, base: Parameters, seconds: float) -> dict[str, Any]:
    """Ten variations of one clip at once."""
    bench = Bench(model)
    source = clip(model, seconds)
    _, took = bench.run([(source, replace(base, prompt=prompt)) for prompt in VARIATIONS])
    bench.engine.close(60)
    return {"wall_s": took, "an_edit_s": took / len(VARIATIONS), **bench.rate(0)}


def rows_of(model: MelodyFlow, edits: int, frames: int) -> list[Row]:
    """The rows that this many edits with guidance need at once."""
    flow = model.flow
    time_ = flow.embed_times([0.5])[0.5]
    text = flow.read_text(model.text("strings and a warm choir"))
    rng = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(edits):
        noise = torch.randn(flow.config.latent_dim, frames, generator=rng).to(flow.device)
        rows += [Row(noise, 0.5, time_, text), Row(noise, 0.5, time_, None)]
    return rows


@torch.inference_mode()
def network(model: MelodyFlow, counts: list[int], frames: int) -> dict[str, Any]:
    """Network calls of several sizes, compared with their matrix products alone."""
    figures = {}
    side = torch.cuda.Stream(model.device) if model.device.type == "cuda" else None  # type: ignore[no-untyped-call]
    with torch.cuda.stream(side):
        for edits in counts:
            rows = rows_of(model, edits, frames)
            for _ in range(2):
                model.network(rows)
            seconds = timed(model.device, lambda rows=rows: model.network(rows), 5)  # type: ignore[misc]
            rate = call_operations(model.flow.config, rows) / seconds
            tokens = 2 * edits * frames
            products = product_operations(model, tokens) / product_seconds(model, tokens)
            figures[str(tokens)] = {
                "call_s": seconds,
                "tflops": rate / 1e12,
                "products_tflops": products / 1e12,
                "share": rate / products,
            }
    return figures


@torch.inference_mode()
def profile(model: MelodyFlow, edits: int, frames: int, out: Path) -> dict[str, Any]:
    """Profiles the kernels of network calls: a table in a file, and their shares as figures."""
    from torch.profiler import ProfilerActivity

    cuda = model.device.type == "cuda"
    rows = rows_of(model, edits, frames)
    for _ in range(3):
        model.network(rows)
    wait(model.device)
    activities = [ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(3):
            model.network(rows)
        wait(model.device)
    key = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    averages = profiler.key_averages()
    name = f"profile-{2 * edits * frames}.txt"
    (out / name).write_text(averages.table(sort_by=key, row_limit=40, max_name_column_width=100))
    attribute = "self_device_time_total" if cuda else "self_cpu_time_total"
    times = {event.key: getattr(event, attribute) for event in averages}
    whole = sum(times.values()) or 1
    top = sorted(times, key=lambda key: -times[key])[:12]
    return {key[:80]: round(times[key] / whole, 4) for key in top}


def in_bf16(model: MelodyFlow) -> MelodyFlow:
    """The same model with a bf16 network."""
    flow = copy.deepcopy(model.flow)
    for parameter in flow.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    return MelodyFlow(model.codec, model.text, flow)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/gpu_report", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument(
        "--size", choices=SIZES, help="of the model (default: full, small on a CPU)"
    )
    parser.add_argument("--minutes", type=float, default=8, help="ends within these (default: 8)")
    parser.add_argument("--out", type=Path, default=Path("gpu-report"), help="folder to write to")
    parser.add_argument(
        "--fixtures",
        type=Path,
        nargs="*",
        default=[Path(__file__).resolve().parents[2] / "tests/data/parity/tiny"],
        help="parity folders (default: the one in tests/)",
    )
    parser.add_argument(
        "--pack",
        type=Path,
        help="only write the fixtures to this folder, converted, for a machine without omegaconf",
    )
    given = parser.parse_args()
    end_after(60 * given.minutes)
    if given.pack:
        pack(given.fixtures, given.pack)
        return
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit(f"gpu_report: {given.device}: PyTorch sees no GPU; try --device cpu")
    size = given.size or ("full" if device.type == "cuda" else "small")
    run(given.out, device, size, given.fixtures)


def end_after(seconds: float) -> None:
    """Ends the process after this time, wherever it is; finished parts are on disk."""

    def end() -> None:
        print("time is up; the parts above are saved", flush=True)
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def pack(folders: list[Path], out: Path) -> None:
    """Copies of parity folders with converted checkpoints."""
    for folder in folders:
        to = out / folder.name
        to.mkdir(parents=True)
        for name in ("cases.json", "fixtures.npz"):
            (to / name).write_bytes((folder / name).read_bytes())
        parity.converted(folder, to / "checkpoint")


def run(out: Path, device: torch.device, size: str, folders: list[Path]) -> None:
    """Runs all parts, the most informative first."""
    from melodyflow.tools.make_checkpoint import random_model

    report = Report(out)
    cuda = device.type == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    report.part("machine", lambda: machine(device))
    exact = random_model(size, str(device))
    fast = in_bf16(exact) if cuda else exact
    window = exact.flow.config.segment_duration
    clip_s, steps, frames = (window, 25, exact.max_frames) if cuda else (2.0, 4, 50)
    base = Parameters(prompt="strings", seed=0, steps=steps)
    report.part("warm_up", lambda: warmed(fast))
    counts = [1, 2, 4, 8] if cuda else [1, 4]
    report.part("network", lambda: network(fast, counts, frames))
    report.part("alone", lambda: alone(fast, base, clip_s, 20 if cuda else 2))
    report.part("drift", lambda: drift(exact, fast, clip_s, steps))
    report.part("crowd", lambda: crowd(fast, base, clip_s, [1, 2, 4, 8, 16] if cuda else [1, 4]))
    report.part("together", lambda: together(fast, base, clip_s / 3, 8 if cuda else 3))
    loop = replace(base, loop=True)
    report.part("loop_8s", lambda: alone(fast, loop, 8.0 if cuda else 1.0, 10 if cuda else 2))
    report.part("ten_variations", lambda: variations(fast, base, clip_s))
    for edits in counts[:1] + counts[-1:]:
        name = f"profile_{2 * edits * frames}"
        report.part(name, lambda edits=edits: profile(fast, edits, frames, out))  # type: ignore[misc]
    report.part("parity_fp32", lambda: fixtures(folders, device, "fp32"))
    report.part("parity_bf16", lambda: fixtures(folders, device, "bf16"))
    report.part("plot", lambda: plot(report.figures, out))


if __name__ == "__main__":
    main()
