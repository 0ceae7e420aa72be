"""Every kind of file is read as docs/files.md has it: rate, samples, lag, what is told."""

import pytest

from melodyflow_client.audio import load

from ..files.case import faults
from ..files.cases import KINDS
from ..files.report import PAGE


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_read(kind: str) -> None:
    pytest.importorskip("av")
    page = PAGE.read_text()
    wrong = []
    for case in KINDS[kind]():
        wrong += [f"{case.name}: {fault}" for fault in faults(case, load(case.data))]
        if f"| {case.name} |" not in page:
            wrong.append(f"{case.name}: not in {PAGE.name}; run scripts/files --write")
    assert not wrong
