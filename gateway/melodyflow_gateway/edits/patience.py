"""How long an edit waits for a server that is full or away.

The SDK waits and tries again; nothing else in the gateway does. This is what it is told.
"""

from __future__ import annotations

from dataclasses import replace

from melodyflow_client.protocol import Edit
from melodyflow_client.retry import Retry

# A server that is full, or has never answered, is tried again for about four seconds. One that
# went away is waited for: see with_patience().
RETRY = Retry(retries=3, first=0.5)


def with_patience(edit: Edit, patience: float, *, own_timeout: bool, patient: bool) -> Edit:
    """The edit, with how long it waits for a server that went away.

    own_timeout: its client set one, which then bounds the wait. patient: nobody holds a request
    open, so that it waits until the gateway's deadline, also for a server that was never seen.
    patience: seconds for all others.
    """
    if patient:
        return replace(edit, even_unseen=True)
    return edit if own_timeout else replace(edit, patience=patience)
