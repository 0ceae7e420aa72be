"""One hierarchy of errors: everything the client raises on purpose is a `MelodyFlowError`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Triton's backend API has no code for a deadline, so the server's own is told by the parameter
# that its text starts with.
_DEADLINE_PARAMETER = "timeout_s"


class MelodyFlowError(Exception):
    """Base of all errors.

    message: what went wrong; texts of the server are kept unaltered and start with the name of
        the input they are about.
    status: the gRPC status ("INVALID_ARGUMENT"), None for errors of the client's own.
    request_id: id of the request as the server's log has it, None where none was sent.
    """

    def __init__(self, message: str, *, status: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.request_id: str | None = None


class InvalidRequest(MelodyFlowError, ValueError):
    """The request cannot be carried out as asked: fix it, a retry will not help."""


class UnknownVariation(InvalidRequest):
    """No variation has this name. `nearest` are up to three that look like it."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.nearest = difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.4)
        hint = (
            f"did you mean {', '.join(self.nearest)}?"
            if self.nearest
            else "`melodyflow variations` lists them"
        )
        super().__init__(f"variation: no variation is called {name!r}; {hint}")


class AudioError(InvalidRequest):
    """The sound cannot be read on this side, or the result not be written as asked."""


class PresetError(MelodyFlowError):
    """A file of variations is missing or breaks the schema; the message names file and field."""


class Unavailable(MelodyFlowError):
    """The server is full, starting, draining or not there, after all retries."""


class DeadlineExceeded(MelodyFlowError, TimeoutError):
    """The timeout passed before there was a result."""


class Cancelled(MelodyFlowError):
    """The edit was ended on the server's side. (One's own cancelling raises no such error.)"""


class ServerError(MelodyFlowError):
    """The server failed, or answered what cannot be understood."""


_BY_STATUS: dict[str, type[MelodyFlowError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
}


# What Triton refuses before the model sees it comes without a status from Triton 2.51, even where
# statuses are asked for: only the text tells.
_TRITONS_OWN = {
    "Exceeds maximum queue size": "UNAVAILABLE",
    "Request timeout expired": "UNAVAILABLE",
    "unexpected inference input": "INVALID_ARGUMENT",
    "data-type": "INVALID_ARGUMENT",
    "unexpected shape": "INVALID_ARGUMENT",
    "batch size does not match": "INVALID_ARGUMENT",
    "inputs but model": "INVALID_ARGUMENT",
}


def from_triton(error: MelodyFlowError) -> bool:
    """Whether Triton itself said no, of its queue or of a tensor: then there is a server."""
    return any(text in error.message for text in _TRITONS_OWN)


def from_status(status: str, message: str) -> MelodyFlowError:
    """The error for a gRPC status by name ("UNAVAILABLE") and its text, which is kept as it is."""
    if status == "UNKNOWN":
        status = next((s for text, s in _TRITONS_OWN.items() if text in message), status)
    if message.startswith(_DEADLINE_PARAMETER) and status != "INVALID_ARGUMENT":
        return DeadlineExceeded(message, status=status)
    return _BY_STATUS.get(status, ServerError)(message or status, status=status)
