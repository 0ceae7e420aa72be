"""How far an edit is, in words."""

from __future__ import annotations

from ..sessions.store import Standing

_MESSAGES = {
    "queued": "waiting in the queue",
    "warming": "the server is down or loading; the edit continues when it is ready",
    "processing": "the edit is running",
    "completed": "the edit is done",
    "failed": "the edit has failed",
}


def message(standing: Standing) -> str:
    """One sentence for people."""
    if standing.status == "queued" and standing.position:
        plural = "" if standing.position == 1 else "s"
        return f"waiting behind {standing.position} edit{plural} of this gateway"
    return _MESSAGES[standing.status]


def estimated_time(standing: Standing) -> str | None:
    """The approximate time until the result, "about 40 s"; None where it is unknown."""
    seconds = standing.estimated_seconds
    if seconds is None:
        return None
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
