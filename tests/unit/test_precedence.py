"""Precedence: short work of one owner goes before long work of others, which is never starved."""

import threading

from melodyflow.engine.precedence import BRIEF, Precedence


def _worked(precedence: Precedence, owner: str, seconds: float) -> None:
    """This owner has an edit here, and has used the CPU so long."""
    precedence.come(owner)
    with precedence.work_of(owner):
        precedence._mine.since -= seconds


def _gives_way(precedence: Precedence, owner: str) -> threading.Event:
    """A thread of theirs that comes to the end of a part; set once it goes on."""
    goes_on = threading.Event()

    def work() -> None:
        with precedence.work_of(owner):
            precedence.give_way()
            goes_on.set()

    threading.Thread(target=work, daemon=True).start()
    return goes_on


def test_who_has_used_much_waits_until_a_newcomer_has_gone() -> None:
    precedence = Precedence()
    _worked(precedence, "long", 60)
    precedence.come("new")
    waiting = [_gives_way(precedence, "long") for _ in range(3)]
    assert _gives_way(precedence, "new").wait(30)  # it waits for nobody
    assert not waiting[0].wait(0.2)
    precedence.leave("new")
    assert all(goes_on.wait(30) for goes_on in waiting)


def test_after_its_first_seconds_a_newcomer_shares() -> None:
    precedence = Precedence()
    _worked(precedence, "long", 60)
    assert _gives_way(precedence, "long").wait(30)
    precedence.come("new")
    waiting = _gives_way(precedence, "long")
    assert not waiting.wait(0.2)
    _worked(precedence, "new", BRIEF + 1)
    assert waiting.wait(30)


def test_nobody_waits_longer_than_they_have_worked() -> None:
    precedence = Precedence()
    _worked(precedence, "long", BRIEF + 0.1)
    precedence.come("new")
    for _ in range(3):
        assert _gives_way(precedence, "long").wait(30)  # though the newcomer stays


def test_one_owners_edits_never_wait_for_each_other() -> None:
    precedence = Precedence()
    _worked(precedence, "one", 60)
    precedence.come("one")
    assert _gives_way(precedence, "one").wait(30)


def test_short_work_waits_for_nobody() -> None:
    precedence = Precedence()
    _worked(precedence, "short", BRIEF / 2)
    precedence.come("new")
    assert _gives_way(precedence, "short").wait(30)


def test_who_waits_for_a_thread_is_waited_for_by_none() -> None:
    precedence = Precedence()
    _worked(precedence, "long", 60)
    precedence.come("new")
    waiting = _gives_way(precedence, "long")
    assert not waiting.wait(0.2)
    precedence.queue("new")
    assert waiting.wait(30)
    with precedence.work_of("new", queued=True):
        waiting = _gives_way(precedence, "long")
        assert not waiting.wait(0.2)
        with precedence.waiting():  # for what another thread makes
            assert waiting.wait(30)


def test_waiting_is_no_work() -> None:
    precedence = Precedence()
    precedence.come("one")
    with precedence.work_of("one"), precedence.waiting():
        precedence._mine.since -= 60
    assert precedence._used["one"] < 60


def test_who_is_gone_is_forgotten() -> None:
    precedence = Precedence()
    _worked(precedence, "one", 60)
    precedence.leave("one")
    _worked(precedence, "two", 1)
    precedence.come("one")
    assert _gives_way(precedence, "one").wait(30)
    assert precedence._used["one"] < 60
    precedence.leave("one")
    with precedence.work_of("one"):  # a preview of an edit that has ended
        precedence.give_way()
    precedence.leave("two")
    held = (precedence._edits, precedence._standing, precedence._used, precedence._waited)
    assert not any(held)


def test_threads_that_work_for_nobody_go_on() -> None:
    precedence = Precedence()
    precedence.come("new")
    precedence.give_way()
    with precedence.waiting():
        pass
