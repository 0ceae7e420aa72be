"""Whether bytes move fast enough, judged over whole windows so that one stall doesn't count."""

from __future__ import annotations


class Pace:
    """rate: least bytes a second. window: seconds over which it is averaged."""

    def __init__(self, rate: float, window: float) -> None:
        self._rate, self._window = rate, window
        self._since: float | None = None
        self._bytes = 0

    def rest(self) -> None:
        """Nothing is expected to move now."""
        self._since = None

    def too_slow(self, now: float, moved: int) -> bool:
        """moved: bytes so far, in all. True once a whole window has passed with too few."""
        if self._since is None or moved < self._bytes:
            self._since, self._bytes = now, moved
            return False
        elapsed = now - self._since
        if elapsed < self._window:
            return False
        slow = moved - self._bytes < self._rate * elapsed
        self._since, self._bytes = now, moved
        return slow
