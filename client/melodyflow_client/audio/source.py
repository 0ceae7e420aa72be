"""Paths, bytes and file objects -> one file to read from."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ..errors import AudioError
from .limits import MAX_BYTES, Holding, Limits

# A path, a file's bytes, a binary file object, or (array, sample rate in Hz). load() takes a Clip
# as well.
FileSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
ArraySource: TypeAlias = tuple[npt.ArrayLike, int]

_PIECE = 1 << 20  # bytes


class File:
    """A seekable file, on disk or in memory, or a part of one."""

    def __init__(
        self, whole: BinaryIO, data: bytes | None = None, start: int = 0, end: int | None = None
    ) -> None:
        """The bytes of `whole` from `start` to `end`. data: they, if they are in memory already."""
        self._whole, self._data, self._start = whole, data, start
        self.size = (whole.seek(0, os.SEEK_END) if end is None else end) - start
        self.stream = cast(BinaryIO, _Window(whole, start, start + self.size))

    def part(self, start: int, end: int) -> File:
        """The bytes from `start` to `end`. A file and its parts are read one at a time."""
        if (start, end) == (0, self.size):
            return self
        return File(self._whole, None, self._start + start, self._start + end)

    def spliced(self, ranges: list[tuple[int, int]]) -> File:
        """The bytes of several ranges, one after another."""
        if len(ranges) == 1:
            return self.part(*ranges[0])
        return File(cast(BinaryIO, _Splice(self.stream, ranges)))

    def head(self, size: int, start: int = 0) -> bytes:
        """Up to `size` bytes from `start` on."""
        self.stream.seek(start)
        return self.stream.read(size)

    def whole(self, limits: Limits, holding: Holding) -> bytes:
        """All bytes: the very ones that it was made of, or read from disk."""
        limits.check_bytes(self.size)
        if self._data is None:
            holding.take(self.size)
            self._whole.seek(self._start)
            self._data = self._whole.read(self.size)
            holding.give_back(self.size - len(self._data))  # it may have shrunk
        return self._data


class _Window(io.RawIOBase):
    """A part of a file, as a file. A decoder that seeks to before its beginning, as libsndfile does
    in broken files, stays there."""

    def __init__(self, stream: BinaryIO, start: int, end: int) -> None:
        self._stream, self._start, self._size = stream, start, end - start
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._size - self._position
        if left <= 0:
            return 0
        self._stream.seek(self._start + self._position)
        data = self._stream.read(min(len(buffer), left))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position


class _Splice(io.RawIOBase):
    """Several parts of a file, as a file."""

    def __init__(self, stream: BinaryIO, ranges: list[tuple[int, int]]) -> None:
        self._stream, self._ranges = stream, ranges
        self._ends = list(accumulate(end - start for start, end in ranges))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        number = bisect_right(self._ends, self._position)
        if number == len(self._ends):
            return 0
        left = self._ends[number] - self._position
        self._stream.seek(self._ranges[number][1] - left)
        data = self._stream.read(min(len(buffer), left))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._ends[-1]}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position


@contextmanager
def opened(source: Any, holding: Holding) -> Iterator[File]:
    """A path, bytes or a binary file object (from where it stands) as a File. What can be read
    only once is read into memory. Raises AudioError."""
    if isinstance(source, bytes):
        yield File(io.BytesIO(source), source)
    elif isinstance(source, bytearray | memoryview):
        size = memoryview(source).nbytes
        _check_size(size)
        holding.take(size)
        data = bytes(source)
        yield File(io.BytesIO(data), data)
    elif isinstance(source, str | os.PathLike):
        with _open(source) as stream:
            yield File(stream) if stream.seekable() else _read(stream, holding)
    elif hasattr(source, "read"):
        yield _read(source, holding)
    elif isinstance(source, np.ndarray):
        raise AudioError("audio: an array needs its rate: pass (array, sample_rate)")
    else:
        raise AudioError(
            "audio: must be a path, bytes, a binary file object or (array, sample_rate), "
            f"not {type(source).__name__}"
        )


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed below
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"audio: cannot read {os.fspath(path)!r}: {reason}") from error
    with stream:
        yield stream


def _read(stream: BinaryIO, holding: Holding) -> File:
    """All that a stream still has, in memory."""
    memory = io.BytesIO()
    while (piece := stream.read(_PIECE)) != b"":
        if piece is None:
            raise AudioError(
                "audio: the file object has no data yet and doesn't wait; make it block, with "
                "os.set_blocking(file.fileno(), True)"
            )
        if not isinstance(piece, bytes):
            raise AudioError("audio: the file object gives text; open it in binary mode, 'rb'")
        _check_size(memory.tell() + len(piece))
        holding.take(len(piece))
        memory.write(piece)
    return File(memory, memory.getvalue())


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise AudioError(f"audio: is larger than {MAX_BYTES} bytes, more than gRPC can carry")
