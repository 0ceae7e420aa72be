"""Compares this implementation with fixtures computed by the reference.

A folder holds `cases.json`, `fixtures.npz` and a checkpoint, in the released layout or already
converted in `checkpoint/` (tests/data/parity/README.md).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from melodyflow.edit import Parameters, edit_latents, generate_latents
from melodyflow.errors import CheckpointError
from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import Precision, load, open_checkpoint
from melodyflow.model.transformer import Row
from melodyflow.tools.convert import convert

TOLERANCE = 1e-4  # of the largest absolute value expected


@dataclass(frozen=True)
class Comparison:
    """One array compared with the reference's."""

    case: str
    largest: float  # absolute error
    scale: float  # largest absolute value expected

    @property
    def relative(self) -> float:
        return self.largest / self.scale if self.scale else self.largest

    @property
    def held(self) -> bool:
        return self.relative <= TOLERANCE  # False for NaN


def compare(case: str, found: Tensor, expected: Tensor) -> Comparison:
    """The largest absolute difference of two arrays; infinite if the shapes differ."""
    found = found.float().cpu()
    if found.shape != expected.shape:
        return Comparison(
            f"{case} {list(found.shape)} != {list(expected.shape)}", float("inf"), 1.0
        )
    if not expected.numel():
        return Comparison(case, 0.0, 0.0)
    return Comparison(case, float((found - expected).abs().max()), float(expected.abs().max()))


def table(comparisons: list[Comparison]) -> str:
    """A printable table of comparisons."""
    width = max(len(comparison.case) for comparison in comparisons)
    lines = [f"{'case':{width}}  largest error  relative  held"]
    lines += [
        f"{c.case:{width}}  {c.largest:13.2e}  {c.relative:8.1e}  {'yes' if c.held else 'NO'}"
        for c in comparisons
    ]
    return "\n".join(lines)


def converted(folder: Path, out: Path) -> None:
    """Converts a folder's checkpoint into `out`. Raises CheckpointError."""
    t5 = next((path for path in (folder / "t5", folder.parent / "t5") if path.is_dir()), None)
    convert(folder, out, t5=t5)


@torch.inference_mode()
def run(folder: Path, device: str = "cpu", precision: Precision = "fp32") -> Iterator[Comparison]:
    """Converts the folder's checkpoint and compares every case. Raises CheckpointError."""
    try:
        cases: list[dict[str, Any]] = json.loads((folder / "cases.json").read_text())["cases"]
        arrays = np.load(folder / "fixtures.npz")
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{folder}: not a parity folder ({error})") from None
    fixtures = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    with tempfile.TemporaryDirectory() as work:
        checkpoint = folder / "checkpoint"
        if not checkpoint.is_dir():
            checkpoint = Path(work) / "checkpoint"
            converted(folder, checkpoint)
        checked = open_checkpoint(checkpoint, verify=True)
        model = load(checked, device=device, precision=precision)
        for case in cases:
            yield from _run_case(model, case, fixtures)


def _run_case(
    model: MelodyFlow, case: dict[str, Any], fixtures: dict[str, Tensor]
) -> Iterator[Comparison]:
    name, kind = case["name"], case["kind"]
    device = model.device
    if kind in ("encode", "decode"):
        run_codec = model.codec.encode if kind == "encode" else model.codec.decode
        found = run_codec(fixtures[f"{name}_in"].to(device))
        yield compare(name, found, fixtures[f"{name}_out"])
    elif kind == "text":
        expected = fixtures[f"{name}_out"]
        found = torch.zeros_like(expected)
        mask = torch.zeros_like(fixtures[f"{name}_mask"])
        for i, prompt in enumerate(case["prompts"]):
            if prompt:
                text = model.text(prompt).cpu()
                found[i, : len(text)], mask[i, : len(text)] = text, 1
        yield compare(name, found, expected)
        yield compare(f"{name} mask", mask.float(), fixtures[f"{name}_mask"].float())
    elif kind == "velocity":
        flowsteps = [float(t) for t in fixtures[f"{name}_t"].flatten()]
        times = model.flow.embed_times(flowsteps)
        rows = [
            Row(latents.to(device), t, times[t], model.read_text(prompt))
            for latents, t, prompt in zip(
                fixtures[f"{name}_z"], flowsteps, case["prompts"], strict=True
            )
        ]
        yield compare(name, torch.stack(model.network(rows)), fixtures[f"{name}_out"])
    elif kind == "edit":
        posterior = fixtures["clip_latents"].to(device)
        latents = edit_latents(model, posterior, _parameters(model, case))
        yield compare(name, latents, fixtures[f"{name}_latents"])
        if f"{name}_audio" in fixtures:
            yield compare(f"{name} audio", model.decode(latents), fixtures[f"{name}_audio"])
    elif kind == "generate":
        frames = int(case["duration"] * model.codec.config.frame_rate)
        latents = generate_latents(model, frames, _parameters(model, case))
        yield compare(name, latents, fixtures[f"{name}_latents"])
        if f"{name}_audio" in fixtures:
            yield compare(f"{name} audio", model.decode(latents), fixtures[f"{name}_audio"])
    else:
        raise CheckpointError(f"cases.json: case {name!r} has the unknown kind {kind!r}")


def _parameters(model: MelodyFlow, case: dict[str, Any]) -> Parameters:
    regularised = case.get("regularize", False)
    return Parameters(
        prompt=case["prompt"],
        source_prompt=case.get("source_prompt", ""),
        seed=case["seed"],
        flowstep=case.get("flowstep", 0.0),
        steps=case["steps"],
        solver=case["solver"],
        guidance=case.get("guidance", model.flow.config.guidance),
        regularize_iters=case["regularize_iters"] if regularised else 0,
        keep_last_k_iters=case["keep_last_k_iters"] if regularised else 0,
        lambda_kl=case.get("lambda_kl", 0.2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/parity",
        description="Compares this implementation with fixtures that the reference computed.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    held = True
    for folder in parser.parse_args().folders:
        try:
            comparisons = list(run(folder))
        except CheckpointError as error:
            sys.exit(f"parity: {error}")
        print(f"{folder}\n{table(comparisons)}")
        held = held and all(comparison.held for comparison in comparisons)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
