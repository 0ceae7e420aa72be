"""One hierarchy of errors: everything the client raises on purpose is a `MelodyFlowError`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Triton's backend API has no code for a deadline, so the server's own is told by the parameter
# that its text starts with.
_DEADLINE_PARAMETER = "timeout_s"


_SHOWN = 80


def shown(value: object) -> str:
    """What an error quotes of a value: its beginning, cut before anything is made of it."""
    if isinstance(value, str | bytes) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}..."
    text = repr(value)
    return text if len(text) <= 2 * _SHOWN else f"{text[: 2 * _SHOWN]}..."


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
        beginning = name[:_SHOWN].lower()
        self.nearest = difflib.get_close_matches(beginning, list(known), n=3, cutoff=0.4)
        hint = (
            f"did you mean {', '.join(self.nearest)}?"
            if self.nearest
            else "`melodyflow variations` lists them"
        )
        super().__init__(f"variation: no variation is called {shown(name)}; {hint}")


class AudioError(InvalidRequest):
    """The sound cannot be read on this side, or the result not be written as asked."""


class PresetError(MelodyFlowError):
    """A file of variations is missing or breaks the schema; the message names file and field."""


class Unavailable(MelodyFlowError):
    """The server is full, starting, draining, lost or not there, after all retries."""


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

# Triton gives a stream's errors a text and no status. The server ends its texts with the code.
_CODE = re.compile(r" \[(INVALID_ARGUMENT|CANCELLED|DEADLINE_EXCEEDED|UNAVAILABLE|INTERNAL)\]\Z")

# What Triton says itself has no code: only the text tells.
_FULL = ("Exceeds maximum queue size", "Request timeout expired")
_BY_TEXT = {
    **dict.fromkeys(_FULL, "UNAVAILABLE"),
    "has no available versions": "UNAVAILABLE",
    "Server is stopping": "UNAVAILABLE",
    "is not healthy": "UNAVAILABLE",  # the model's process has died
    # Triton 2.51 reads memory that it has freed before a stranger's stream crashes it, and finds
    # fault with requests that are whole. What this client sends is never so.
    "unexpected number of string elements": "UNAVAILABLE",
    "incomplete string": "UNAVAILABLE",
    "unexpected total byte size": "UNAVAILABLE",
    "unexpected inference input": "INVALID_ARGUMENT",
    "data-type": "INVALID_ARGUMENT",
    "unexpected shape": "INVALID_ARGUMENT",
    "batch size does not match": "INVALID_ARGUMENT",
    "inputs but model": "INVALID_ARGUMENT",
}

# What servers from before the codes say, from the first to the last character.
_FROM_BEFORE = {
    re.compile(pattern, re.DOTALL): status
    for pattern, status in {
        r"the server is shutting down; try again": "UNAVAILABLE",
        r"the client cancelled the request": "CANCELLED",
        r"timeout_s: .*; a number of seconds above 0": "INVALID_ARGUMENT",
        r"timeout_s: .*": "DEADLINE_EXCEEDED",
        r"(audio|encoding|prompt|source_prompt|flowstep|steps|solver|guidance|regularize_iters"
        r"|keep_last_k_iters|lambda_kl|seed|format|sample_rate|start|end|loop|loudness|duration"
        r"|stream|session_id|metadata): .*": "INVALID_ARGUMENT",
        r".*; no such input or parameter; .*": "INVALID_ARGUMENT",
    }.items()
}

_RESTARTING = "; the server restarts"  # by itself: its step loop has died

# How gRPC says, beside UNAVAILABLE, that a connection is gone.
_CUT = (
    "Stream removed",
    "RST_STREAM",
    "Connection reset",
    "Socket closed",
    "GOAWAY",
    "Internal error from Core",  # the stream ended while the request was being written
)


def is_full(error: MelodyFlowError) -> bool:
    """Whether the server lives and has no room in its queue."""
    return any(text in error.message for text in _FULL)


def is_answer(error: MelodyFlowError) -> bool:
    """Whether the server said it, and not a proxy or a connection that failed."""
    return isinstance(error, InvalidRequest) or _known(error.message) is not None


def is_cut(status: str, message: str) -> bool:
    """Whether a stream that this side has not cancelled ended because the server, or the connection
    to it, went away."""
    if status in ("UNKNOWN", "INTERNAL"):
        return any(text in message for text in _CUT)
    return status in ("UNAVAILABLE", "CANCELLED")


def from_status(status: str, message: str) -> MelodyFlowError:
    """The error for a gRPC status by name ("UNAVAILABLE") and its text, which is kept as it is."""
    if status == "UNKNOWN":
        status = _known(message) or status
    if message.startswith(_DEADLINE_PARAMETER) and status != "INVALID_ARGUMENT":
        return DeadlineExceeded(message, status=status)
    if message.endswith(_RESTARTING):
        return Unavailable(message, status=status)
    return _BY_STATUS.get(status, ServerError)(message or status, status=status)


def from_text(text: str) -> MelodyFlowError:
    """The error for the text of a response, whose code is split off; without one the text tells."""
    code = _CODE.search(text)
    if code is None:
        return from_status("UNKNOWN", text)
    return from_status(code[1], text[: code.start()])


def _known(message: str) -> str | None:
    """The status of a text that has none."""
    for pattern, status in _FROM_BEFORE.items():
        if pattern.fullmatch(message):
            return status
    return next((status for text, status in _BY_TEXT.items() if text in message), None)
