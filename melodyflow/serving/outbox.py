"""The one thread that talks to Triton: it sends responses and metrics, and checks for clients that
went away.

Each of these is a message to the server process. The step loop and the workers only post them here.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05

Action = Callable[[], None]


class Watched(Protocol):
    """Something that is checked regularly until it ends."""

    def look(self) -> None:
        """Checks for cancellation and the deadline; called on the outbox's thread."""


class Outbox:
    """Runs actions in the order they were posted, and checks what is watched every 50 ms."""

    def __init__(self) -> None:
        self._actions: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        self._watched: set[Watched] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def post(self, action: Action) -> None:
        """Queues an action. Thread-safe; never blocks."""
        self._actions.put(action)

    def watch(self, watched: Watched) -> None:
        """Checks `watched` regularly until `unwatch`."""
        with self._lock:
            self._watched.add(watched)

    def unwatch(self, watched: Watched) -> None:
        with self._lock:
            self._watched.discard(watched)

    def close(self) -> None:
        """Runs everything posted, including what that posts, and ends the thread."""
        self._actions.put(None)
        self._thread.join()

    def _run(self) -> None:
        next_look = time.monotonic()
        while True:
            try:
                action = self._actions.get(timeout=max(0.0, next_look - time.monotonic()))
            except queue.Empty:
                action = self._look
            if action is None:
                if self._actions.empty():
                    return
                self._actions.put(None)
                continue
            self._attempt(action)
            if time.monotonic() >= next_look:
                # Needed when the queue is never empty.
                self._attempt(self._look)
                next_look = time.monotonic() + POLL_SECONDS

    def _look(self) -> None:
        with self._lock:
            watched = list(self._watched)
        for one in watched:
            self._attempt(one.look)

    @staticmethod
    def _attempt(action: Action) -> None:
        try:
            action()
        except Exception:  # one response that can't be sent must not block the others
            log.exception("a message to Triton failed")
