"""A job's state in the words of the old service."""

from __future__ import annotations

from ..sessions.store import JobState

_MESSAGES = {
    "queued": "waiting in the queue",
    "warming": "the server is away or loading; the edit goes on when it is back",
    "processing": "the edit is under way",
    "completed": "the edit is done",
    "failed": "the edit has failed",
}


def message(state: JobState) -> str:
    """One sentence for people."""
    if state.status == "queued" and state.position:
        plural = "" if state.position == 1 else "s"
        return f"waiting behind {state.position} edit{plural} of this gateway"
    return _MESSAGES[state.status]


def estimated_time(state: JobState) -> str | None:
    """The approximate time until the result, "about 40 s"; None where it is not known."""
    seconds = state.estimated_seconds
    if seconds is None:
        return None
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
