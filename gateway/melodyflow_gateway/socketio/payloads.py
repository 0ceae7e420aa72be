"""The data of Socket.IO events."""

from __future__ import annotations

from typing import Any

from ..problems import Problem
from ..sessions.store import Standing
from ..wire.status_text import estimated_time, message


def event_of(standing: Standing) -> tuple[str, dict[str, Any]]:
    """The event that tells how far an edit is, and its data without the session."""
    if standing.status in ("queued", "warming"):
        return "queue_status", queue_status(standing)
    return "progress_update", {"progress": round(standing.progress, 2)}


def queue_status(standing: Standing) -> dict[str, Any]:
    """Of a `queue_status` event; position and time are approximate."""
    return {
        "status": standing.status,
        "message": message(standing),
        "position": standing.position,
        "total_queued": standing.total,
        "estimated_time": estimated_time(standing),
        "estimated_seconds": standing.estimated_seconds,
    }


def error_data(problem: Problem) -> dict[str, Any]:
    """Of an `error` event."""
    data: dict[str, Any] = {"message": problem.message, "code": problem.status}
    if problem.retry_after is not None:
        data["retry_after"] = problem.retry_after
    return data
