"""Who goes first on the CPU: whoever has used little of it."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

BRIEF = 1.0  # seconds of work that go before others' longer work


class Precedence:
    """The work in the threads beside the loop of an owner who has used more than BRIEF seconds
    stops between its parts while an edit of another owner is on its way who has used less. So a
    short edit isn't slowed by long ones of others, however many. Nobody waits longer than they have
    worked.

    An owner is known as long as they have edits here. An edit that waits for a thread, or for what
    a thread makes, isn't on its way: the thread may be one that would stop for it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._edits: Counter[str] = Counter()
        self._standing: Counter[str] = Counter()  # those of them that wait for a thread
        self._used: Counter[str] = Counter()  # seconds
        self._waited: Counter[str] = Counter()  # seconds
        self._mine = threading.local()

    def come(self, owner: str) -> None:
        """An edit of theirs is here."""
        with self._changed:
            self._edits[owner] += 1

    def leave(self, owner: str) -> None:
        """An edit of theirs has ended."""
        with self._changed:
            self._edits[owner] -= 1
            if not self._edits[owner]:
                del self._edits[owner], self._used[owner], self._waited[owner]
            self._changed.notify_all()

    def queue(self, owner: str) -> None:
        """An edit of theirs waits for a thread, until the `work_of` that takes it."""
        with self._changed:
            self._stand(owner)

    @contextmanager
    def work_of(self, owner: str, *, queued: bool = False) -> Iterator[None]:
        """Its block is this owner's work."""
        if queued:
            with self._changed:
                self._go_on(owner)
        self._mine.owner, self._mine.since = owner, time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._count(owner)
            self._mine.owner = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """In its block, this thread waits for another one, which is no work."""
        owner: str | None = getattr(self._mine, "owner", None)
        if owner is None:
            yield
            return
        with self._changed:
            self._count(owner)
            self._stand(owner)
        try:
            yield
        finally:
            with self._changed:
                self._go_on(owner)
            self._mine.since = time.monotonic()

    def give_way(self) -> None:
        """Waits while others go first. For the thread of work_of(); in others it does nothing."""
        owner: str | None = getattr(self._mine, "owner", None)
        if owner is None:
            return
        with self._changed:
            begun = self._count(owner)
            longest = self._used[owner] - self._waited[owner]
            self._changed.wait_for(lambda: not self._others_go_first(owner), max(0.0, longest))
            self._mine.since = time.monotonic()
            if self._edits[owner]:
                self._waited[owner] += self._mine.since - begun

    def _stand(self, owner: str) -> None:
        self._standing[owner] += 1
        self._changed.notify_all()

    def _go_on(self, owner: str) -> None:
        self._standing[owner] -= 1
        if not self._standing[owner]:
            del self._standing[owner]

    def _count(self, owner: str) -> float:
        """Counts what this thread has worked since it last did; the time now."""
        now = time.monotonic()
        if self._edits[owner]:  # a preview may end after its edit
            self._used[owner] += now - self._mine.since
            self._changed.notify_all()
        self._mine.since = now
        return now

    def _others_go_first(self, owner: str) -> bool:
        return self._used[owner] > BRIEF and any(
            self._used[other] <= BRIEF and edits > self._standing[other]
            for other, edits in self._edits.items()
            if other != owner
        )
