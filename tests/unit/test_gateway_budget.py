"""The gateway's bytes: never more than there are, none lost, none for one owner alone."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Gauge

from melodyflow_gateway.budget import Budget
from melodyflow_gateway.problems import Problem


def budget(total: int) -> Budget:
    return Budget(total, Gauge("taken", "", registry=None))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.booleans()), max_size=60))
def test_never_more_than_there_are_and_half_for_one(steps: list[tuple[str, int, bool]]) -> None:
    made = budget(100)
    held = {owner: made.share(owner) for owner in "abc"}
    for owner, size, back in steps:
        if back:
            held[owner].give_back(min(size, held[owner].size))
            continue
        before = made.taken
        try:
            held[owner].take(size)
        except Problem as problem:
            assert (problem.status, problem.retry_after is not None) == (503, True)  # noqa: PT017
            assert made.taken == before
        assert made.taken == sum(share.size for share in held.values()) <= 100
        assert all(share.size <= 50 for share in held.values())
    for share in held.values():
        share.release()
        share.release()
    assert made.taken == 0


def test_two_shares_of_one_owner_count_together() -> None:
    made = budget(100)
    made.share("a").take(30)
    with pytest.raises(Problem, match="half of the gateway's 100 bytes"):
        made.share("a").take(30)
    made.share("b").take(50)
    with pytest.raises(Problem, match="its 100 bytes for clips are taken"):
        made.share("c").take(30)


def test_what_is_released_takes_no_more() -> None:
    made = budget(100)
    with made.share("a") as share:
        share.take(40)
    share.take(40)
    share.give_back(40)
    assert made.taken == 0


def test_threads_lose_nothing() -> None:
    made = budget(10**9)

    def work() -> None:
        for _ in range(2000):
            with made.share("a") as share:
                share.take(3)
                share.give_back(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.taken == 0
