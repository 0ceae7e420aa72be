"""Errors shared by several parts of the package. Importing this needs no PyTorch."""

from enum import StrEnum


class AudioError(ValueError):
    """Invalid audio, or an invalid audio parameter. The message gives the input's name, the value
    and what is allowed."""


class CheckpointError(ValueError):
    """An unusable checkpoint. The message names the file and the remedy."""


class SettingsError(ValueError):
    """An invalid setting. The message gives its name, its value and what is allowed."""


class EmbeddedError(RuntimeError):
    """The embedded server can't start or has ended. The message includes the remedy."""


class Code(StrEnum):
    """Why an edit ended without a result."""

    INVALID_ARG = "invalid"  # the request is invalid
    CANCELLED = "cancelled"  # the client went away
    DEADLINE = "deadline"  # its timeout passed
    UNAVAILABLE = "unavailable"  # try again later
    INTERNAL = "failed"  # the server's fault


class EditError(Exception):
    """Ends an edit without a result. The message goes to the client."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


def quoted(data: bytes) -> str:
    """Bytes from a client, quoted and safe to put into a message."""
    return repr(data.decode("latin-1"))
