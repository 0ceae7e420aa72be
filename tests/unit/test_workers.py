"""Workers: nobody has all of them."""

import threading

import pytest

from melodyflow.engine.precedence import Precedence
from melodyflow.engine.workers import MOST_OF_ONE, WORKERS, Workers


@pytest.fixture
def workers():
    made = Workers("test", Precedence())
    yield made
    made.shutdown()


def test_another_owners_work_does_not_wait_for_one_who_has_much(workers: Workers) -> None:
    hold, begun = threading.Event(), threading.Semaphore(0)

    def long() -> None:
        begun.release()
        hold.wait(10)

    many = [workers.submit("many", long) for _ in range(8)]
    try:
        for _ in range(MOST_OF_ONE):
            assert begun.acquire(timeout=5)
        workers.submit("one", lambda: None).result(timeout=5)
        assert sum(work.running() for work in many) == MOST_OF_ONE < WORKERS
    finally:
        hold.set()
    for work in many:
        work.result(timeout=5)


def test_what_waits_can_be_cancelled_and_errors_are_kept(workers: Workers) -> None:
    hold = threading.Event()
    busy = [workers.submit("a", lambda: hold.wait(10) and None) for _ in range(MOST_OF_ONE)]
    waiting = workers.submit("a", lambda: 1 / 0)
    cancelled = workers.submit("a", hold.set)
    assert cancelled.cancel()
    assert not hold.is_set()
    hold.set()
    with pytest.raises(ZeroDivisionError):
        waiting.result(timeout=5)
    assert [work.result(timeout=5) for work in busy] == [None, None]


def test_shutdown_does_what_was_submitted() -> None:
    workers, done = Workers("test", Precedence()), []
    for number in range(20):
        workers.submit("a", lambda number=number: done.append(number))
    workers.shutdown()
    assert sorted(done) == list(range(20))
    with pytest.raises(RuntimeError):
        workers.submit("a", lambda: None)


def test_a_newcomer_is_not_waited_for_by_those_it_waits_for() -> None:
    precedence = Precedence()
    workers = Workers("test", precedence)

    def long() -> None:
        precedence._mine.since -= 60
        begun.wait(10)
        came.wait(10)
        precedence.give_way()

    begun, came = threading.Barrier(WORKERS + 1), threading.Event()
    owners = [f"long {number}" for number in range(WORKERS)]
    for owner in (*owners, "new"):
        precedence.come(owner)
    many = [workers.submit(owner, long) for owner in owners]
    begun.wait(10)
    new = workers.submit("new", lambda: precedence.leave("new"))
    came.set()
    for work in (*many, new):
        work.result(timeout=5)
    workers.shutdown()
