"""Every kind of file is read as docs/files.md has it: rate, samples, lag, what is told."""

from dataclasses import replace

import numpy as np
import pytest

from melodyflow_client import AudioError
from melodyflow_client.audio import Clip, load

from ..files.case import Case, Door, faults
from ..files.cases import KINDS
from ..files.figures import BEGIN, DOORS, END, PAGE, faulty, known, measured, summary
from ..files.sounds import RATE, Samples, sound, wav


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_read(kind: str) -> None:
    pytest.importorskip("av")
    cases = list(KINDS[kind]())
    wrong = [f"{case.name}: {words}" for case in cases for words in faults(case, load(case.data))]
    assert wrong == []
    rows = [row["file"] for row in known() if row["kind"] == kind]
    assert rows == [case.name for case in cases], "run scripts/files --write"


def test_the_document_sums_up_what_was_measured() -> None:
    rows = known()
    assert BEGIN + summary(rows) + END in PAGE.read_text()
    assert faulty(rows) == []
    assert [row["file"] for row in rows if not all(row[door] for door in DOORS)] == []


CASE = Case("a WAV", "wav", wav(), sound(), ("cut",))


def gives(*told: str, samples: Samples | None = None, rate: int = RATE) -> Door:
    """A door that tells this, and gives the expected samples if no others."""
    chosen = sound() if samples is None else samples
    return lambda _: replace(load((chosen.T.copy(), rate)), warnings=told)


def refuses(_: Case) -> Clip:
    raise AudioError("audio: is no sound")


def fails(_: Case) -> Clip:
    raise IndexError("out of range")


@pytest.mark.parametrize(
    ("door", "expected"),
    [
        (gives("It is CUT."), "right: 11003 samples, lag 0, the same"),
        (gives(), "untold: 11003 samples, lag 0, the same"),
        (gives("cut", samples=sound()[:-3]), "cut: -3 samples"),
        (gives("cut", samples=np.pad(sound(), ((0, 3), (0, 0)))), "wrong: +3 samples"),
        (gives("cut", samples=sound()[3:]), "wrong: -3 samples"),
        (gives("cut", rate=48_000), "wrong: 48000 Hz, not 44100"),
        (refuses, "refused: audio: is no sound"),
        (fails, "traceback: IndexError: out of range"),
    ],
)
def test_what_is_wrong_is_counted_as_such(door: Door, expected: str) -> None:
    row = measured("Some", CASE, {"SDK": door})
    assert row["SDK"].startswith(expected)
    right = expected.startswith("right")
    assert len(faulty([row])) == (not right)
    counted = "1" if right else f"0 right, 1 {expected.partition(':')[0]}"
    assert f"| Some | WAV | 1 | not measured | {counted} | not measured |" in summary([row])


def test_a_door_that_says_something_else_is_counted() -> None:
    doors = {"SDK": gives("it is cut"), "page": gives("It is cut."), "command": gives("cut")}
    row = measured("Some", CASE, doors)
    assert [row[name].partition(":")[0] for name in doors] == ["right", "right", "untold"]
