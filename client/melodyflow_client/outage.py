"""A server that goes away and comes back, and the edits that wait for it."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from .errors import MelodyFlowError, Unavailable, is_full
from .protocol import Edit
from .retry import Retry

# An edit that lost its server this often after it had begun may be what crashes it.
_MOST_LOSSES = 10

_LAST_TRY = 0.5  # seconds before the deadline: a later try is pointless


class Outage:
    """What a client knows about its server's absence.

    All edits of a client share it, so they wait out an outage together, not one after the other.

    known: the server has answered this client at least once.
    """

    def __init__(self, patience: float) -> None:
        self.known = False
        self._patience = patience
        self._since: float | None = None

    @property
    def away(self) -> bool:
        """Whether the client waits for the server."""
        return self._since is not None

    @property
    def over(self) -> bool:
        """Whether the client has waited long enough."""
        return self._since is not None and time.monotonic() - self._since >= self._patience

    def answered(self) -> None:
        """The server is there."""
        self.known = True
        self._since = None

    def said(self, error: MelodyFlowError) -> None:
        """The server has answered with an error: it is there, unless it says that it is leaving."""
        self.known = True
        if is_full(error) or not isinstance(error, Unavailable):
            self.answered()

    def seconds(self) -> float:
        """How long the server has been away. The first call starts the outage."""
        now = time.monotonic()
        self._since = self._since or now
        return now - self._since


class Pause(NamedTuple):
    """Seconds until an edit is sent again. warming: its server went away and may come back."""

    seconds: float
    warming: bool


class Tries:
    """When to send one edit again.

    It waits for a server that went away until its timeout, or else as long as the patience lasts.
    A server that is unavailable for other reasons is tried again as Retry says.
    """

    def __init__(self, retry: Retry, outage: Outage, edit: Edit, deadline: float | None) -> None:
        self._retry, self._outage, self._edit, self._deadline = retry, outage, edit, deadline
        patience = retry.patience if deadline is None else math.inf
        self._patience = patience if edit.patience is None else edit.patience
        self._delays, self._waits = retry.delays(), retry.waits()
        self._begun = False
        self._losses = 0
        self._waits_since: float | None = None

    def begun(self) -> None:
        """The server is working on the edit."""
        self._begun = True

    def after(self, error: Unavailable) -> Pause | None:
        """The pause before the next try; None: give up."""
        if self._begun or is_full(error):  # the server was there: waits start over
            self._waits, self._waits_since = self._retry.waits(), None
        self._losses += self._begun
        self._begun = False
        if self._losses > _MOST_LOSSES:
            return None
        left = math.inf if self._deadline is None else self._deadline - time.monotonic()
        if not is_full(error) and self._waits_for_server():
            return self._wait(left)
        delay = next(self._delays, math.inf)
        return Pause(delay, warming=False) if delay < left else None

    def _waits_for_server(self) -> bool:
        """Whether the server went away, and recently enough for a new edit to wait for it."""
        if self._retry.retries == 0 or not (self._outage.known or self._edit.even_unseen):
            return False
        return self._waits_since is not None or self._outage.seconds() < self._patience

    def _wait(self, left: float) -> Pause | None:
        now = time.monotonic()
        self._waits_since = self._waits_since or now
        # Its own wait counts, too: the client's other edits may get answers all along.
        waited = max(self._outage.seconds(), now - self._waits_since)
        if waited >= self._patience or left < _LAST_TRY:
            return None
        return Pause(min(next(self._waits), left / 2), warming=True)
