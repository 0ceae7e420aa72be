"""Bytes -> a file: whole or not at all, with whatever the path names already taken into account.

A file is replaced: it is written beside the old one, under a short name, and then renamed. Symbolic
links are followed, and the old file's permissions stay. Devices, FIFOs and what is open already
(/dev/fd/N) are written to.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
# A folder that takes no files, or a file that is a mount of its own, may still be written to.
_IN_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV}
# What file systems say that can't reserve room or flush
_UNKNOWN = {errno.EINVAL, errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP}


def check_writable(path: str | os.PathLike[str], size: int = 0) -> None:
    """Raises the OSError that write_file() would meet, as far as that can be told beforehand.

    size: bytes that have to fit. Leaves nothing behind.
    """
    with _about(path):
        fd, target = _own_fd(path), _target(path)
        if fd is not None:
            check_stream(fd, size)
        elif target is None:
            _check_device(path)
        elif not os.path.exists(target):
            # Under its own name, because a file system may not take that. It may be there by now.
            with suppress(FileExistsError), _new_file(target, size=size):
                pass
        else:
            with _opened(target, os.O_WRONLY):
                pass
            try:
                with _new_file(_beside(target), size=size):
                    pass
            except OSError as error:
                if error.errno not in _IN_PLACE:
                    raise


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file, a device or a FIFO, which is waited for until somebody reads it.

    Raises OSError; a file that was there before is then unchanged, unless it could only be
    written in place.
    """
    with _about(path):
        fd, target = _own_fd(path), _target(path)
        if fd is not None:
            write_all(fd, data)
            return
        if target is None:
            with _opened(path, os.O_WRONLY) as device:
                write_all(device, data)
            return
        try:
            with _new_file(_beside(target), data) as name:
                _take_permissions(name, target)
                os.replace(name, target)
        except OSError as error:
            if error.errno not in _IN_PLACE or not os.path.exists(target):
                raise
            with _opened(target, os.O_WRONLY | os.O_TRUNC) as file:
                write_all(file, data)
                _flush(file)


def write_new_file(path: Path, data: bytes) -> Path:
    """Writes a file that didn't exist and returns its path: `path`, or the first free name of
    numbered(). Raises OSError."""
    with _about(path), _new_file(_beside(os.fspath(path)), data) as name:
        free = _claim(path)
        try:
            os.replace(name, free)
        except BaseException:
            os.unlink(free)
            raise
        return free


def _claim(path: Path) -> Path:
    """An empty file under the first name that is free, even if others look for one now."""
    names = numbered(path)
    while True:
        name = next(names)
        with suppress(FileExistsError), _opened(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL):
            return name


def numbered(path: Path) -> Iterator[Path]:
    """`path`, then with `-2`, `-3`, ... before its suffix."""
    yield path
    for number in count(2):
        yield path.with_stem(f"{path.stem}-{number}")


def write_all(fd: int, data: bytes) -> None:
    """Writes all bytes, to a pipe that doesn't block, too. Raises OSError."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            select.select([], [fd], [])


def check_stream(fd: int, size: int = 0) -> None:
    """Raises the OSError that write_all() would meet, as far as that can be told beforehand."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) and hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fd, 0)
        if poll.poll(0):
            raise _error(errno.EPIPE)
    if stat.S_ISREG(mode):
        room = os.fstatvfs(fd)
        if room.f_bavail * room.f_frsize < size:
            raise _error(errno.ENOSPC)
    os.write(fd, b"")


def _target(path: str | os.PathLike[str]) -> str | None:
    """The file that stands, or will stand, behind all links; None: something else is there."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        return os.path.realpath(path)
    if stat.S_ISDIR(kind):
        raise _error(errno.EISDIR)
    if stat.S_ISSOCK(kind):
        raise OSError(errno.EOPNOTSUPP, "a socket can't be written to by its name")
    return os.path.realpath(path) if stat.S_ISREG(kind) else None


def _own_fd(path: str | os.PathLike[str]) -> int | None:
    """The N of /dev/fd/N, a file that is open already: it is written to where it stands."""
    number = re.fullmatch(r"/(dev|proc/self)/fd/(\d+)", os.fspath(path))
    return int(number[2]) if number else _STREAMS.get(os.fspath(path))


def _check_device(path: str | os.PathLike[str]) -> None:
    if not os.access(path, os.W_OK):
        raise _error(errno.EACCES)
    if stat.S_ISCHR(os.stat(path).st_mode):
        with _opened(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY) as fd:
            check_stream(fd)


@contextmanager
def _opened(path: str | os.PathLike[str], flags: int) -> Iterator[int]:
    fd = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    try:
        yield fd
    finally:
        os.close(fd)


def _beside(target: str) -> str:
    """A new, short name in the same folder."""
    return os.path.join(os.path.dirname(target), f".melodyflow-{secrets.token_hex(4)}.part")


@contextmanager
def _new_file(name: str, data: bytes = b"", size: int = 0) -> Iterator[str]:
    """A new file with this content, or with room for `size` bytes; removed at the end if it still
    has its name. Its permissions are those of any new file, which those of tempfile aren't."""
    with _opened(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
        try:
            if size and hasattr(os, "posix_fallocate"):
                _reserve(fd, size)
            if data:
                write_all(fd, data)
                _flush(fd)
        except BaseException:
            os.unlink(name)
            raise
    try:
        yield name
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _take_permissions(name: str, old: str) -> None:
    """Gives a file the permissions of the one it replaces, and the owner, if that is allowed."""
    with suppress(FileNotFoundError):
        status = os.stat(old)
        with suppress(OSError):
            os.chown(name, status.st_uid, status.st_gid)
        os.chmod(name, stat.S_IMODE(status.st_mode))


def _reserve(fd: int, size: int) -> None:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise


def _flush(fd: int) -> None:
    """Onto the disk: that it is full, another machine may tell only then."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise


@contextmanager
def _about(path: str | os.PathLike[str]) -> Iterator[None]:
    """Gives errors the name that people know."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
