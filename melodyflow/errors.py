"""The errors that several parts of the package raise or catch. Importing them needs no PyTorch."""

from enum import StrEnum


class AudioError(ValueError):
    """Audio or a parameter of it is refused: the input's name, the value, what is allowed."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the remedy."""


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it, its value and what is allowed."""


class EmbeddedError(RuntimeError):
    """The embedded server cannot be started or has ended; the message carries the remedy."""


class Code(StrEnum):
    """Why an edit ended without a result."""

    INVALID_ARG = "invalid"  # the request cannot be done
    CANCELLED = "cancelled"  # the client went away
    DEADLINE = "deadline"  # its time was up
    UNAVAILABLE = "unavailable"  # not now
    INTERNAL = "failed"  # our fault


class EditError(Exception):
    """An edit that ends without a result; the message is the client's."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


def quoted(data: bytes) -> str:
    """Bytes from a client in quotes, safe to put into a message."""
    return repr(data.decode("latin-1"))
