"""The short form of scripts/soak: 50 mixed edits, and what must hold after them."""

from pathlib import Path

import pytest

from .soak import Report, soak


@pytest.fixture(scope="module")
def report(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return soak(checkpoint, 50, log=tmp_path_factory.mktemp("soak") / "triton.log")


def test_all_promises_are_kept(report: Report) -> None:
    assert report.broken() == []


def test_all_kinds_of_requests_were_met(report: Report) -> None:
    """Without them the promises say little."""
    kinds = {"done", "invalid", "refused", "deadline", "left", "left at once"}
    assert {kind for kind, count in report.tally.ends.items() if count} == kinds
    assert set(report.tally.sent) == {"grpc", "events", "generate"}
    found = {name: report.counted[inversions(name)] for name in ("miss", "hit", "shared")}
    assert found["miss"] > 0
    assert found["hit"] + found["shared"] > 0
    assert report.counted['melodyflow_edits_total{outcome="cancelled"}'] > 0


def inversions(found: str) -> str:
    return f'melodyflow_inversions_total{{found="{found}"}}'
