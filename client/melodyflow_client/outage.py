"""A server that goes away and comes back, and the edits that wait for it."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from .errors import MelodyFlowError, Unavailable, is_full
from .protocol import Edit
from .retry import Retry

# An edit that has begun and lost its server so often may be what ends it.
_MOST_LOSSES = 10

_LAST_TRY = 0.5  # seconds before the deadline after which none is worth it


class Outage:
    """What a client knows of its server. All its edits share it, and so they wait for one outage
    together, not one after the other.

    known: the server has answered this client.
    """

    def __init__(self, patience: float) -> None:
        self.known = False
        self._patience = patience
        self._since: float | None = None

    @property
    def away(self) -> bool:
        """Whether the server is waited for."""
        return self._since is not None

    @property
    def over(self) -> bool:
        """Whether it has been waited for long enough."""
        return self._since is not None and time.monotonic() - self._since >= self._patience

    def answered(self) -> None:
        """The server is there."""
        self.known = True
        self._since = None

    def said(self, error: MelodyFlowError) -> None:
        """The server has answered with an error: it is there, unless it says that it goes."""
        self.known = True
        if is_full(error) or not isinstance(error, Unavailable):
            self.answered()

    def seconds(self) -> float:
        """How long it has been away. The first question is the beginning of an outage."""
        now = time.monotonic()
        self._since = self._since or now
        return now - self._since


class Pause(NamedTuple):
    """Seconds until an edit is sent again; warming: its server went away and is waited for."""

    seconds: float
    warming: bool


class Tries:
    """When one edit is sent again.

    A server that went away is waited for until the edit's timeout, or as long as patience lasts;
    what else is unavailable is tried again as Retry says.
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
        """The server works on the edit."""
        self._begun = True

    def after(self, error: Unavailable) -> Pause | None:
        """The pause before the next try; None: there is none."""
        if self._begun or is_full(error):  # the server was there: the waits begin anew
            self._waits, self._waits_since = self._retry.waits(), None
        self._losses += self._begun
        self._begun = False
        if self._losses > _MOST_LOSSES:
            return None
        left = math.inf if self._deadline is None else self._deadline - time.monotonic()
        if not is_full(error) and self._is_waited_for():
            return self._wait(left)
        delay = next(self._delays, math.inf)
        return Pause(delay, warming=False) if delay < left else None

    def _is_waited_for(self) -> bool:
        """Whether the server went away, and not so long ago that a new edit need not wait."""
        if self._retry.retries == 0 or not (self._outage.known or self._edit.even_unseen):
            return False
        return self._waits_since is not None or self._outage.seconds() < self._patience

    def _wait(self, left: float) -> Pause | None:
        now = time.monotonic()
        self._waits_since = self._waits_since or now
        # Its own time counts too: others of the client's edits may be answered all the while.
        waited = max(self._outage.seconds(), now - self._waits_since)
        if waited >= self._patience or left < _LAST_TRY:
            return None
        return Pause(min(next(self._waits), left / 2), warming=True)
