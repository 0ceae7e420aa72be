"""When the edits of a line will be done: the arithmetic, and what a poll says of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodyflow_gateway.edits.line import Line
from melodyflow_gateway.edits.pace import Pace, Work, seconds_until_done
from melodyflow_gateway.edits.turns import Turn, Turns
from melodyflow_gateway.metrics import Metrics
from melodyflow_gateway.routes.juce import _queue_status
from melodyflow_gateway.sessions.store import JobRecord

works = st.lists(st.floats(0.1, 100.0), max_size=8)
slots = st.integers(1, 4)
rates = st.floats(0.5, 20.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def played(running: list[float], waiting: list[float], slots: int, rate: float) -> list[float]:
    """The same, played out: from one end to the next, each that runs gets its share."""
    left = dict(enumerate(running))
    line = list(enumerate(waiting, len(running)))
    done = [0.0] * (len(running) + len(waiting))
    clock = 0.0
    while left or line:
        while line and len(left) < slots:
            number, work = line.pop(0)
            left[number] = work
        step = min(left.values())
        clock += step * len(left) / rate
        left = {number: work - step for number, work in left.items()}
        for number in [number for number, work in left.items() if work <= 1e-9]:
            done[number] = clock
            del left[number]
    return done


@given(works, works, slots, rates)
def test_it_is_what_playing_it_out_gives(
    running: list[float], waiting: list[float], slots: int, rate: float
) -> None:
    slots = max(slots, len(running))
    found = seconds_until_done(running, waiting, slots, rate)
    assert found == pytest.approx(played(running, waiting, slots, rate), abs=1e-4)


@given(works, works, slots, rates)
def test_the_last_is_done_when_all_work_is(
    running: list[float], waiting: list[float], slots: int, rate: float
) -> None:
    found = seconds_until_done(running, waiting, slots, rate)
    total = sum(running) + sum(waiting)
    assert max(found, default=0.0) == pytest.approx(total / rate)


def test_fourteen_of_one_length_ahead() -> None:
    found = seconds_until_done([10.0] * 6, [10.0] * 9, 6, rate=4.0)
    assert found[:6] == [pytest.approx(15.0)] * 6
    assert found[6:12] == [pytest.approx(30.0)] * 6
    assert found[12:] == [pytest.approx(37.5)] * 3


def test_a_longer_clip_ahead_is_a_longer_wait() -> None:
    short, long = (
        seconds_until_done([], [Work(seconds, 75).whole, Work(4, 75).whole], 1, 10.0)[1]
        for seconds in (4, 40)
    )
    assert long > 4 * short


@given(rates, st.lists(st.tuples(st.floats(0.05, 5.0), st.floats(0.0, 60.0)), min_size=40))
def test_the_rate_is_found_whatever_the_pauses(
    rate: float, pieces: list[tuple[float, float]]
) -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.rate is None
    for seconds, pause in pieces:
        pace.runs(2)
        clock.now += seconds
        pace.did(rate * seconds)
        pace.runs(0)
        clock.now += pause
    found = pace.rate
    assert found is None or found == pytest.approx(rate)
    assert found is not None or sum(seconds for seconds, _ in pieces) < 3


def test_a_change_is_followed() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.runs(1)
    for rate, low, high in ((10.0, 9.9, 10.1), (2.0, 2.0, 2.5)):
        for _ in range(100):
            clock.now += 1
            pace.did(rate)
        assert pace.rate is not None
        assert low <= pace.rate <= high


def line_of(slots: int) -> tuple[Turns, Line]:
    turns = Turns(lambda: slots, lambda most: most)
    return turns, Line(turns, Metrics(), lambda: 0.5)


def come(turns: Turns, line: Line, work: Work) -> Turn:
    turn = turns.join("owner", 2)
    line.enter(turn, work)
    return turn


def test_an_estimate_has_all_that_is_ahead() -> None:
    turns, line = line_of(2)
    short, long = Work(3.0, 9), Work(15.0, 9)  # four times as long, with what a call costs
    alone = line.seconds(come(turns, line, short))
    assert alone == pytest.approx(5.0)  # ten calls of half a second
    ahead = [come(turns, line, long) for _ in range(3)]
    last = come(turns, line, short)
    assert (line.position(last), line.waiting) == (4, 5)
    # Work 40, 160, 160, 160 and 40, of which 22.4 are done in a second; the last but one is not
    # done when the last is: 80 of it.
    assert line.seconds(last) == pytest.approx((560 - 80) / 22.4)
    for turn in ahead:
        turns.leave(turn)
        line.leave(turn, done=False)
    assert line.seconds(come(turns, line, short)) == pytest.approx(3 * 40 / 8)


def test_what_is_done_of_an_edit_is_no_longer_waited_for() -> None:
    turns, line = line_of(1)
    first, second = (come(turns, line, Work(3.0, 9)) for _ in range(2))
    before = line.seconds(second)
    line.go_on(first, 0.5)
    assert (line.waits(first), line.waiting, line.running) == (False, 1, 1)
    third = come(turns, line, Work(3.0, 9))  # a new edit's estimate is a new one for all
    line.seconds(third)
    after = line.seconds(second)
    assert before == pytest.approx(10.0)
    assert after == pytest.approx(7.5)
    for turn in (first, second, third):
        turns.leave(turn)
        line.leave(turn, done=True)
    assert (line.waiting, line.running) == (0, 0)


def test_only_work_that_is_seen_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[float] = []
    monkeypatch.setattr(Pace, "did", lambda _, work: did.append(work))
    turns, line = line_of(1)
    work = Work(3.0, 9)  # 40 in all
    turn = come(turns, line, work)
    line.go_on(turn, 0.5)  # its inversion was cached
    line.go_on(turn, 0.75)
    line.enter(turn, work)  # the server was restarted; progress never falls
    line.go_on(turn, 0.75)
    line.go_on(turn, 0.9)
    line.leave(turn, done=True)
    assert did == pytest.approx([10.0, 6.0, 4.0])


def test_without_any_measure_there_is_none() -> None:
    turns = Turns(lambda: 1, lambda most: most)
    line = Line(turns, Metrics(), lambda: None)
    assert line.seconds(come(turns, line, Work(3.0, 9))) is None


def test_a_poll_says_the_seconds() -> None:
    record = JobRecord(job="a", seed=1, position=2, total=3, estimated_seconds=37.0)
    status = _queue_status(record)
    assert (status.estimated_seconds, status.estimated_time) == (37.0, "about 37 s")
