"""How the command fails: its exit code and its message."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..errors import DeadlineExceeded, InvalidRequest, PresetError, Refused, Unavailable
from .streams import printable

_SERVER_FAILED = 4


def exit_code(error: Exception) -> int:
    """The exit code for an error."""
    if isinstance(error, InvalidRequest | PresetError):
        return 2
    if isinstance(error, Unavailable):
        return 3
    if isinstance(error, DeadlineExceeded):
        return 5
    if isinstance(error, Refused):
        return 6
    return _SERVER_FAILED


def common_exit_code(errors: Sequence[Exception]) -> int:
    """The exit code for several errors: theirs if they agree, else 4; 0 for none."""
    codes = {exit_code(error) for error in errors}
    if len(codes) > 1:
        return _SERVER_FAILED
    return codes.pop() if codes else 0


def complain(reason: object, about: str = "") -> None:
    """Prints an error, and the request's id if the server's log may say more about it."""
    print(printable(f"melodyflow: {about}{reason}"), file=sys.stderr)
    request_id = getattr(reason, "request_id", None)
    if isinstance(reason, Exception) and request_id and exit_code(reason) in (_SERVER_FAILED, 5):
        print(printable(f"melodyflow: {about}request id {request_id}"), file=sys.stderr)
