"""A file for FFmpeg, which ends the decoding when it has to."""

from __future__ import annotations

import io
from typing import Any

from .sound import Check


class Checked(io.RawIOBase):
    """Looks at `check` whenever FFmpeg reads, which it also does before it decodes."""

    def __init__(self, stream: Any, check: Check) -> None:
        self._stream, self._check = stream, check
        self._raised: BaseException | None = None

    def look(self) -> None:
        """Raises what check raises."""
        try:
            self._check()
        except BaseException as error:
            self._raised = error
            raise

    def pass_on(self, error: Exception) -> None:
        """Raises what check has raised, which PyAV hands on as an error of its own or as it is.
        Whatever else comes out of FFmpeg and PyAV is a matter of the file."""
        if self._raised is not None:
            raise self._raised from (None if error is self._raised else error)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self.look()
        data: bytes = self._stream.read(size)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())
