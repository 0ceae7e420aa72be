"""Slots: how many edits, and how many latent frames, may be in flight."""

import itertools
import threading
from collections.abc import Callable

from melodyflow.engine.job import Job
from melodyflow.errors import Code, EditError

SHUTTING_DOWN = EditError(Code.UNAVAILABLE, "the server is shutting down; try again")


class Admission:
    """Hands out slots, and room for latent frames to those who have one.

    An edit waits for its slot outside, in the server's queue, and for room inside: one that is too
    long for what is left doesn't keep those behind it from a free slot. They go ahead of it only as
    far as they leave it its room, so it isn't overtaken forever. One edit always has room, however
    long it is.
    """

    def __init__(self, slots: int, max_frames: int, on_change: Callable[[int, int], None]) -> None:
        """`on_change(edits, frames)` is told how many slots and frames are taken."""
        self._slots = slots
        self._max_frames = max_frames
        self._on_change = on_change
        self._changed = threading.Condition()
        self._edits = 0
        self._numbers = itertools.count()
        self._inside: dict[Job, int] = {}  # those that have room: the number of their arrival
        self._waiting: dict[Job, tuple[int, Callable[[], None]]] = {}  # first come first
        self._closed = False

    def acquire(self, give_up: Callable[[], EditError | None], poll: float = 0.05) -> None:
        """Waits for a slot and takes it. Raises what `give_up` returns, asked every `poll` seconds,
        and UNAVAILABLE once closed."""
        with self._changed:
            while not self._closed and self._edits >= self._slots:
                reason = give_up()
                if reason:
                    raise reason
                self._changed.wait(poll)
            if self._closed:
                raise SHUTTING_DOWN
            self._edits += 1
            self._tell()

    def wait_for_a_slot(self) -> None:
        """Returns once a slot is free, or once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._edits < self._slots)

    def enter(self, job: Job, begin: Callable[[], None]) -> None:
        """Calls `begin` once there is room for a job that has a slot: now, or in the thread that
        makes the room. It must be quick and must not raise."""
        with self._changed:
            self._waiting[job] = next(self._numbers), begin
        self._let_in()

    def release(self, job: Job) -> None:
        """Gives a job's slot and room back, or its place among those that wait for room."""
        with self._changed:
            self._waiting.pop(job, None)
            self._inside.pop(job, None)
            self._edits -= 1
            self._tell()
            self._changed.notify_all()
        self._let_in()

    def close(self, timeout: float) -> None:
        """Hands out no more slots; waits `timeout` seconds at most until none is taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._edits, timeout)

    def _let_in(self) -> None:
        with self._changed:
            begun = []
            for job, (number, begin) in list(self._waiting.items()):
                if self._has_room(job):
                    del self._waiting[job]
                    self._inside[job] = number
                    begun.append(begin)
            if begun:
                self._tell()
        for begin in begun:
            begin()

    def _has_room(self, job: Job) -> bool:
        if not self._inside:
            return True
        left = self._max_frames - job.frames
        if self._frames() > left:
            return False
        first, (number, _) = next(iter(self._waiting.items()))
        return first is job or first.frames + self._frames(since=number) <= left

    def _frames(self, since: int = 0) -> int:
        """The frames that are inside, of those who came no earlier than `since`."""
        return sum(job.frames for job, number in self._inside.items() if number >= since)

    def _tell(self) -> None:
        self._on_change(self._edits, self._frames())
