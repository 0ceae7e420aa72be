"""The reference's numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from melodyflow.errors import CheckpointError
from melodyflow.tools import parity


def test_every_case_of_tiny_is_held(root: Path) -> None:
    comparisons = list(parity.run(root / "tests/data/parity/tiny"))
    assert len(comparisons) == 22
    assert not [comparison for comparison in comparisons if not comparison.held]


def test_a_wrong_number_is_not_held(root: Path, tmp_path: Path) -> None:
    source = root / "tests/data/parity"
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name in ("state_dict.bin", "compression_state_dict.bin", "cases.json"):
        (folder / name).symlink_to(source / "tiny" / name)
    (tmp_path / "t5").symlink_to(source / "t5")
    arrays = dict(np.load(source / "tiny" / "fixtures.npz"))
    arrays["velocity_out"][0, 0, 0] += 2e-4 * np.abs(arrays["velocity_out"]).max()
    np.savez(folder / "fixtures.npz", **arrays)
    assert [c.case for c in parity.run(folder) if not c.held] == ["velocity"]


@pytest.mark.parametrize(
    ("found", "held"),
    [([1.0, 2.0], True), ([1.0, 2.001], False), ([1.0, float("nan")], False), ([1.0], False)],
)
def test_compare(found: list[float], held: bool) -> None:
    assert parity.compare("x", torch.tensor(found), torch.tensor([1.0, 2.0])).held is held


def test_a_folder_without_cases_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        list(parity.run(tmp_path))
