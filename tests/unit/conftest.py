"""A loaded model for the tests that need one."""

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
