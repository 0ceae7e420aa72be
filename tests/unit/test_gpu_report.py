"""The report on a GPU, made on a CPU."""

import json
import os
import subprocess
import time
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from melodyflow.tools.gpu_report import rows_of
from melodyflow.tools.make_checkpoint import random_model
from melodyflow.tools.measures import cosine, log_spectral_distance
from melodyflow.tools.operations import call_operations


def test_it_completes_on_a_cpu_and_writes_its_files(root: Path, tmp_path: Path) -> None:
    # Without fixtures, which have tests of their own.
    command = [root / "scripts/gpu_report", "--device", "cpu", "--size", "tiny", "--fixtures"]
    subprocess.run(
        [*command, "--out", tmp_path],
        check=True,
        env={**os.environ, "PYTHON": "python"},
        timeout=600,
    )
    figures = json.loads((tmp_path / "report.json").read_text())
    assert not {name: part for name, part in figures.items() if "failed" in part}
    assert figures["drift"]["fused"]["largest_error"] < 1e-4
    assert figures["together"]["least_audio_cosine"] > 0.995
    assert "| p50_s |" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "profile-100.txt").stat().st_size > 1000


def test_it_ends_when_its_time_is_up(root: Path, tmp_path: Path) -> None:
    command = [root / "scripts/gpu_report", "--device", "cpu", "--size", "small", "--out", tmp_path]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--minutes", "0.05"],
        check=True,
        env={**os.environ, "PYTHON": "python"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "time is up" in done.stdout
    assert time.monotonic() - started < 60


def test_without_a_gpu_it_says_so(root: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        return
    done = subprocess.run(
        [root / "scripts/gpu_report", "--out", tmp_path],
        env={**os.environ, "PYTHON": "python"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == ("gpu_report: cuda: PyTorch sees no GPU; try --device cpu")


@torch.inference_mode()
def test_operations_are_those_that_torch_counts() -> None:
    model = random_model("tiny")
    rows = rows_of(model, 2, 40)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.flow(rows)
    counted = call_operations(model.flow.config, rows)
    # The zero key's column is not counted as work.
    assert counted <= counter.get_total_flops() < 1.02 * counted


def test_measures_of_drift() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 48000, generator=rng)
    assert cosine(x, 3 * x) > 1 - 1e-9
    assert abs(log_spectral_distance(x, x * 10 ** (6 / 20)) - 6) < 0.01
