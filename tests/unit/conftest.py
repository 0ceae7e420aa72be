"""A loaded model for the tests that need one."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from melodyflow.model import MelodyFlow
from melodyflow.model.checkpoint import load, open_checkpoint


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> MelodyFlow:
    """The tiny checkpoint's model on the CPU, in fp32."""
    return load(open_checkpoint(checkpoint))


@pytest.fixture(scope="session")
def narrow(narrow_checkpoint: Path) -> MelodyFlow:
    """The same with a window of 2 s."""
    return load(open_checkpoint(narrow_checkpoint))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"may not mount: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
