"""A gateway that stops: what it takes, what it waits for."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from melodyflow_gateway import stopping
from melodyflow_gateway.door.quota import Lease, Quota
from melodyflow_gateway.problems import Problem
from melodyflow_gateway.stopping import Stopping

Clock = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the time."""
    now = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_nothing_new_is_taken_and_nobody_else_is_counted(clock: Clock) -> None:
    end = Stopping(180)
    quota, others = Quota(60, 2, end), Quota(60, 2)
    lease = quota.take("one")
    end.begin()
    for refused in (quota.check, quota.take):
        with pytest.raises(Problem, match="stopping; try again") as refusal:
            refused("one")
        assert (refusal.value.status, refusal.value.headers) == (503, {"Retry-After": "5"})
    others.count("one")
    assert not end.over
    lease.release()
    lease.release()
    assert end.over


def test_edits_have_their_time_and_no_more(clock: Clock) -> None:
    end = Stopping(180)
    clock(1000)
    end.check_time()
    end.enter()
    end.begin()
    clock(1179.9)
    end.check_time()
    clock(1180)
    with pytest.raises(Problem, match="time for edits in flight is up"):
        end.check_time()
    assert not end.over  # they end with an answer
    clock(1190)
    assert end.over


def test_a_second_call_ends_them_at_once(clock: Clock) -> None:
    end = Stopping(180)
    end.enter()
    end.begin()
    clock(10)
    assert not end.time_is_up
    end.begin()
    assert end.time_is_up
    clock(11)
    end.begin()
    clock(20)
    assert end.over  # ten seconds after the second call, whatever came later


def test_clients_that_poll_have_time_to_fetch(clock: Clock) -> None:
    end = Stopping(180)
    end.begin()
    end.enter()
    clock(50)
    end.await_fetch()
    end.leave()
    assert not end.over
    clock(55)
    assert end.over


@given(st.lists(st.sampled_from(["take", "release", "again", "begin"]), max_size=30))
def test_it_is_over_when_all_that_were_taken_have_ended(steps: list[str]) -> None:
    end = Stopping(math.inf)
    quota, held = Quota(10**6, 10**6, end), list[Lease]()
    for step in steps:
        if step == "begin" and not end.begun:
            end.begin()
        elif step == "take" and not end.begun:
            held.append(quota.take("one"))
        elif step == "release" and held:
            held.pop().release()
        elif step == "again" and held:
            held[-1].release()
            held.pop().release()
        assert end.edits == len(held)
        assert end.over == (end.begun and not held)
