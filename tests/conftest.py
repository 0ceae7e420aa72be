"""Shared by all tests: the checkout, a converted checkpoint, and the GPU marker."""

import json
import shutil
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A shell starts background jobs with SIGINT ignored and children inherit that: tests that press
# Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parity fixtures' tiny random checkpoint, converted. All share it: read only."""
    from melodyflow.model.convert import convert

    source = ROOT / "tests" / "data" / "parity"
    out = tmp_path_factory.mktemp("checkpoint") / "tiny"
    convert(source / "tiny", out, t5=source / "t5")
    return out


@pytest.fixture(scope="session")
def narrow_checkpoint(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a window of 2 s (50 frames): most clips are longer."""
    out = tmp_path_factory.mktemp("checkpoint") / "narrow"
    shutil.copytree(checkpoint, out)
    config = json.loads((out / "config.json").read_text())
    config["flow"]["segment_duration"] = 2.0
    (out / "config.json").write_text(json.dumps(config))
    return out
