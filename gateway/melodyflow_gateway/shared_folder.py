"""The one folder whose files a client may name, because the operator shares it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from .budget import Share
from .problems import RETRY_SECONDS, Problem
from .text import short
from .wire.requests import PATH

INSTEAD = "send the audio instead"

_LONGEST = 4096  # bytes of a path, as Linux has it
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking: opening a FIFO would wait for somebody who writes to it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_REASONS = {
    errno.ENOENT: "doesn't exist in the shared folder",
    errno.ENOTDIR: "leads through a link, or through what isn't a folder; links aren't followed",
    errno.ELOOP: "is a link; links aren't followed",
    errno.ENXIO: "isn't a regular file",
    errno.EACCES: "may not be read by the gateway",
    errno.EPERM: "may not be read by the gateway",
    errno.ENAMETOOLONG: "is too long",
}


class SharedFolder:
    """Files below `folder`, an absolute path, up to `most_bytes` long, for some owners; None: all.

    A path is walked one name at a time from the open folder, and no link is followed: whatever
    others rename meanwhile, what is opened lies in the folder. What it is, is asked of the open
    file.
    """

    def __init__(self, folder: str, most_bytes: int, owners: Collection[str] | None) -> None:
        self._folder, self._most_bytes, self._owners = folder, most_bytes, owners

    def check(self, owner: str) -> None:
        """Raises Problem, 400, for an owner with whom no files are shared."""
        if self._owners is not None and owner not in self._owners:
            raise Problem(400, f"{PATH}: no files are shared with this token; {INSTEAD}")

    def read(self, path: str, share: Share) -> bytes:
        """A file's bytes, taken from `share`. path: as both sides see it, or from the folder on.

        Raises Problem: 400 for what isn't a readable file in the folder or changes under way, 413
        for one that is too large, 503 for want of memory or of the folder.
        """
        *folders, name = self._names(path)
        try:
            with self._opened(folders, name) as file:
                return self._read(path, file, share)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0)
            if reason is None:
                raise
            raise _refused(path, reason) from None

    def _names(self, path: str) -> list[str]:
        """The names to walk, without the folder's own path."""
        if "\0" in path:
            raise _refused(path, "holds a NUL character")
        try:
            size = len(os.fsencode(path))
        except UnicodeEncodeError:
            raise _refused(path, "is not UTF-8") from None
        if size > _LONGEST:
            raise _refused(path, f"is too long; at most {_LONGEST} bytes are allowed")
        parts = Path(path).parts  # without "." and doubled slashes
        if os.path.isabs(path):
            own = Path(self._folder).parts
            if parts[: len(own)] != own:
                raise _refused(path, "lies outside the shared folder")
            parts = parts[len(own) :]
        if ".." in parts:
            raise _refused(path, "holds '..'; name the file from the shared folder on")
        if not parts:
            raise _refused(path, "is a folder")
        return list(parts)

    @contextmanager
    def _opened(self, folders: list[str], name: str) -> Iterator[int]:
        try:
            at = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            raise Problem(503, "the shared folder can't be opened", RETRY_SECONDS) from None
        try:
            for folder in folders:
                inner = os.open(folder, _FOLDER, dir_fd=at)
                os.close(at)
                at = inner
            file = os.open(name, _FILE, dir_fd=at)
        finally:
            os.close(at)
        try:
            yield file
        finally:
            os.close(file)

    def _read(self, path: str, file: int, share: Share) -> bytes:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "isn't a regular file")
        size = found.st_size
        if size > self._most_bytes:
            raise Problem(
                413,
                f"{PATH}: {short(path)} has {size} bytes; at most {self._most_bytes} are allowed",
            )
        share.take(size)
        with open(file, "rb", closefd=False) as stream:
            data = stream.read(size)
            if len(data) < size or stream.read(1):
                share.give_back(size)
                reason = "changed while it was read; send the request once it is written"
                raise _refused(path, reason)
        return data


def _refused(path: str, why: str) -> Problem:
    return Problem(400, f"{PATH}: {short(path)} {why}")
