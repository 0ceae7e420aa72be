"""Slots and room: who goes ahead of whom."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodyflow.edit import Parameters
from melodyflow.engine import Job
from melodyflow.engine.admission import Admission
from melodyflow.errors import Code, EditError

CANCEL = EditError(Code.CANCELLED, "the client cancelled the request")


class Edits:
    """Edits of so many frames, which share one Admission."""

    def __init__(self, slots: int, max_frames: int) -> None:
        self.taken = (0, 0)
        self.admission = Admission(slots, max_frames, self._take)
        self.running: list[Job] = []

    def _take(self, edits: int, frames: int) -> None:
        self.taken = (edits, frames)

    def come(self, frames: int) -> Job:
        listener: Any = None  # nothing is told to it here
        job = Job(Parameters(prompt="strings", seed=1, duration=1.0), frames, None, listener)
        self.admission.acquire(lambda: CANCEL)
        self.admission.enter(job, lambda: self.running.append(job))
        return job

    def end(self, job: Job) -> None:
        if job in self.running:
            self.running.remove(job)
        self.admission.release(job)


def test_a_long_edit_that_waits_for_room_holds_up_nobody() -> None:
    """As the defaults are: a clip of the longest length, and a window for each slot."""
    edits = Edits(slots=4, max_frames=100 + 4 * 5)
    first, second, third = (edits.come(100) for _ in range(3))
    short = edits.come(5)
    assert edits.running == [first, short]
    assert edits.taken == (4, 105)
    with pytest.raises(EditError, match="cancelled"):
        edits.come(5)
    edits.end(short)
    edits.end(first)
    assert edits.running == [second]
    edits.end(third)
    edits.end(second)
    assert edits.taken == (0, 0)
    assert not edits.running


def test_what_waits_for_room_is_not_overtaken_forever() -> None:
    """Shorter edits come without end, and each ends when two more have come."""
    edits = Edits(slots=9, max_frames=100)
    running = [edits.come(40), edits.come(30)]
    long = edits.come(80)
    for _ in range(20):
        running.append(edits.come(10))
        assert len(edits.running) <= 5
        if long in edits.running:
            break
        edits.end(running.pop(0))
    assert long in edits.running


def test_an_edit_longer_than_all_room_runs_alone() -> None:
    edits = Edits(slots=3, max_frames=10)
    short, long, behind = edits.come(4), edits.come(50), edits.come(4)
    assert edits.running == [short], "who overtook it would keep it waiting"
    edits.end(short)
    assert edits.running == [long]
    edits.end(long)
    assert edits.running == [behind]


@given(
    slots=st.integers(1, 6),
    max_frames=st.integers(1, 60),
    happens=st.lists(st.one_of(st.integers(1, 40), st.integers(-6, -1)), max_size=60),
)
def test_bounds_hold_and_everything_ends(slots: int, max_frames: int, happens: list[int]) -> None:
    """Positive: an edit of so many frames comes; negative: the edit at that index ends."""
    edits = Edits(slots, max_frames)
    here: list[Job] = []
    for event in happens:
        if event > 0 and len(here) < slots:
            here.append(edits.come(event))
        elif event < 0 and here:
            edits.end(here.pop(event % len(here)))
        frames = sum(job.frames for job in edits.running)
        assert edits.taken == (len(here), frames)
        assert frames <= max_frames or len(edits.running) == 1
        assert bool(edits.running) == bool(here), "one always has room"
    begun = 0
    while edits.running:
        edits.end(edits.running[0])
        begun += 1
    assert begun == len(here)
    assert edits.taken == (0, 0)
