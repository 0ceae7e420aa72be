"""Slots: how many edits, and how many latent frames, may be in flight."""

import threading
from collections.abc import Callable

from melodyflow.errors import Code, EditError

SHUTTING_DOWN = EditError(Code.UNAVAILABLE, "the server is shutting down; try again")


class Admission:
    """Hands out slots. One edit is always admitted, however long it is."""

    def __init__(self, slots: int, max_frames: int, on_change: Callable[[int, int], None]) -> None:
        """`on_change(edits, frames)` is told what is in flight."""
        self._slots = slots
        self._max_frames = max_frames
        self._on_change = on_change
        self._changed = threading.Condition()
        self._edits = 0
        self._frames = 0
        self._closed = False

    def acquire(
        self, frames: int, give_up: Callable[[], EditError | None], poll: float = 0.05
    ) -> None:
        """Waits until an edit of `frames` fits and takes its slot. Raises what `give_up` returns,
        asked every `poll` seconds, and UNAVAILABLE once closed."""
        with self._changed:
            while not self._fits(frames):
                reason = SHUTTING_DOWN if self._closed else give_up()
                if reason:
                    raise reason
                self._changed.wait(poll)
            if self._closed:
                raise SHUTTING_DOWN
            self._change(1, frames)

    def wait_for_a_slot(self) -> None:
        """Returns once an edit could be admitted, if it is not too long, or once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._edits < self._slots)

    def release(self, frames: int) -> None:
        """Gives a slot back."""
        with self._changed:
            self._change(-1, -frames)
            self._changed.notify_all()

    def close(self, timeout: float) -> None:
        """Admits nobody any more; waits `timeout` seconds at most until nothing is in flight."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._edits, timeout)

    def _fits(self, frames: int) -> bool:
        if not self._edits:
            return True
        return self._edits < self._slots and self._frames + frames <= self._max_frames

    def _change(self, edits: int, frames: int) -> None:
        self._edits += edits
        self._frames += frames
        self._on_change(self._edits, self._frames)
