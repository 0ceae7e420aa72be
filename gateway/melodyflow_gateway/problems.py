"""Errors as HTTP answers: a status, a message, and when to try again."""

from __future__ import annotations

import logging
import math

from melodyflow_client.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    MelodyFlowError,
    Unavailable,
    UnknownVariation,
)

log = logging.getLogger(__name__)

RETRY_SECONDS = 5  # for a server that is full or gone
CLIENT_GONE = 499  # nginx's status for a client that left before the answer


class Problem(Exception):
    """An error that becomes an answer.

    status: the HTTP status. message: for the client; never a traceback. retry_after: seconds.
    """

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def problem_of(error: Exception) -> Problem:
    """The answer to an error. Our own failures are logged, and their text isn't shown."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, UnknownVariation):
        return Problem(404, error.message)
    if isinstance(error, InvalidRequest):
        return Problem(400, error.message)
    if isinstance(error, DeadlineExceeded):
        return Problem(504, error.message)
    if isinstance(error, Unavailable):
        return Problem(503, error.message, RETRY_SECONDS)
    if isinstance(error, Cancelled):  # by the server: it is going down, or was told to
        return Problem(503, f"the server cancelled the edit: {error.message}", RETRY_SECONDS)
    request_id = getattr(error, "request_id", None)
    if isinstance(error, MelodyFlowError):
        log.error("the server failed: %s", error.message, extra={"request_id": request_id})
    else:
        log.error("the gateway failed", exc_info=error)
    named = f"; request id {request_id}" if request_id else ""
    return Problem(500, f"internal error: the request is not the cause{named}")


def outcome_of(problem: Problem) -> str:
    """The metrics' name for an edit that ended with this problem."""
    outcomes = {503: "unavailable", 504: "deadline", 500: "failed"}
    return outcomes.get(problem.status, "invalid")
