"""The errors: everything that the client raises on purpose is a `MelodyFlowError`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from .contract import INPUTS, REQUEST

# Triton's backend API has no code for a deadline: the parameter that starts the text gives it away.
_DEADLINE_PARAMETER = "timeout_s"


_SHOWN = 80


def shown(value: object) -> str:
    """A value as an error quotes it: long ones are cut, strings before they are even formatted."""
    if isinstance(value, str | bytes) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}..."
    text = repr(value)
    return text if len(text) <= 2 * _SHOWN else f"{text[: 2 * _SHOWN]}..."


class MelodyFlowError(Exception):
    """Base of all errors.

    message: what went wrong. The server's texts are unaltered and start with the name of the input.
    status: the gRPC status ("INVALID_ARGUMENT"); None: the client's own error.
    request_id: the request's id in the server's log; None: nothing was sent.
    """

    def __init__(self, message: str, *, status: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.request_id: str | None = None


class InvalidRequest(MelodyFlowError, ValueError):
    """The request is wrong: fix it; a retry won't help."""


class UnknownVariation(InvalidRequest):
    """No variation has this name. `nearest`: up to three similar names."""

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
    """The client can't read the audio, or can't write the result as asked."""


class PresetError(MelodyFlowError):
    """A file of variations is missing or wrong; the message names the file and the field."""


class Unavailable(MelodyFlowError):
    """After all retries the server is still full, starting, shutting down or unreachable."""


class DeadlineExceeded(MelodyFlowError, TimeoutError):
    """The timeout passed without a result."""


class Refused(MelodyFlowError):
    """The server, or the proxy in front of it, doesn't let this client do this: an API key is
    missing or wrong, or the API is closed."""


class Cancelled(MelodyFlowError):
    """The server cancelled the edit, or the client was closed. Leaving an edit raises nothing."""


class ServerError(MelodyFlowError):
    """The server failed, or its answer makes no sense."""


_BY_STATUS: dict[str, type[MelodyFlowError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
    "UNAUTHENTICATED": Refused,
    "PERMISSION_DENIED": Refused,
}

# In a stream, Triton's errors have a text but no status: our server's texts end with the code.
_CODE = re.compile(r" \[(INVALID_ARGUMENT|CANCELLED|DEADLINE_EXCEEDED|UNAVAILABLE|INTERNAL)\]\Z")

# Triton's own errors have no code, only a text.
_FULL = ("Exceeds maximum queue size", "Request timeout expired")
_BY_TEXT = {
    **dict.fromkeys(_FULL, "UNAVAILABLE"),
    "has no available versions": "UNAVAILABLE",
    "Server is stopping": "UNAVAILABLE",
    "is not healthy": "UNAVAILABLE",  # the model's process has died
    # Before another client's stream crashes it, Triton 2.51 reads memory that it has freed and
    # reports errors in requests that have none.
    "unexpected number of string elements": "UNAVAILABLE",
    "incomplete string": "UNAVAILABLE",
    "unexpected total byte size": "UNAVAILABLE",
    "unexpected inference input": "INVALID_ARGUMENT",
    "data-type": "INVALID_ARGUMENT",
    "unexpected shape": "INVALID_ARGUMENT",
    "batch size does not match": "INVALID_ARGUMENT",
    "inputs but model": "INVALID_ARGUMENT",
}

# The full texts of servers from before the codes.
_FROM_BEFORE = {
    re.compile(pattern, re.DOTALL): status
    for pattern, status in {
        r"the server is shutting down; try again": "UNAVAILABLE",
        r"the client cancelled the request": "CANCELLED",
        r"timeout_s: .*; a number of seconds above 0": "INVALID_ARGUMENT",
        r"timeout_s: .*": "DEADLINE_EXCEEDED",
        rf"({'|'.join((*INPUTS, *REQUEST))}): .*": "INVALID_ARGUMENT",
        r".*; no such input or parameter; .*": "INVALID_ARGUMENT",
    }.items()
}

_RESTARTING = "; the server restarts"  # of its own accord: its step loop has died

# How gRPC reports a lost connection, apart from UNAVAILABLE.
_CUT = (
    "Stream removed",
    "RST_STREAM",
    "Connection reset",
    "Socket closed",
    "GOAWAY",
    "Internal error from Core",  # the stream ended while the request was being written
)


# How a proxy says that it reaches no server: Envoy in words, others by what gRPC makes of a status.
_PROXY = (
    "no healthy upstream",
    "upstream connect error",
    "upstream request timeout",
    "header with status: 502",
    "header with status: 503",
    "header with status: 504",
)


def is_proxys(message: str) -> bool:
    """Whether a proxy answers for a server that it doesn't reach."""
    return any(text in message for text in _PROXY)


def is_full(error: MelodyFlowError) -> bool:
    """Whether the server is alive and its queue is full."""
    return any(text in error.message for text in _FULL)


def is_answer(error: MelodyFlowError) -> bool:
    """Whether it comes from the server, not from a proxy or a failed connection."""
    return isinstance(error, InvalidRequest) or _known(error.message) is not None


def is_cut(status: str, message: str) -> bool:
    """Whether a stream ended because the server, or the connection to it, went away.

    Not for streams that the client cancelled itself.
    """
    if status in ("UNKNOWN", "INTERNAL"):
        return any(text in message for text in _CUT)
    return status in ("UNAVAILABLE", "CANCELLED")


def from_status(status: str, message: str) -> MelodyFlowError:
    """The error for a gRPC status, by name ("UNAVAILABLE"), and its text, which is kept."""
    if status == "UNKNOWN":
        status = _known(message) or status
    if message.startswith(_DEADLINE_PARAMETER) and status != "INVALID_ARGUMENT":
        return DeadlineExceeded(message, status=status)
    if message.endswith(_RESTARTING):
        return Unavailable(message, status=status)
    return _BY_STATUS.get(status, ServerError)(message or status, status=status)


def from_text(text: str) -> MelodyFlowError:
    """The error for the text of a response; its code is split off if it has one."""
    code = _CODE.search(text)
    if code is None:
        return from_status("UNKNOWN", text)
    return from_status(code[1], text[: code.start()])


def _known(message: str) -> str | None:
    """The status of a text without a code; None: unknown."""
    for pattern, status in _FROM_BEFORE.items():
        if pattern.fullmatch(message):
            return status
    return next((status for text, status in _BY_TEXT.items() if text in message), None)
