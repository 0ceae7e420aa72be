"""Two real servers behind a real Envoy, started once for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .envoy import Fleet


@pytest.fixture(scope="session")
def fleet(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two servers behind Envoy; each is started again if it dies."""
    with Fleet(checkpoint, tmp_path_factory.mktemp("fleet"), servers=2) as running:
        yield running
