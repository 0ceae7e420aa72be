"""Browsers that are signed in: each has a random id in its cookie, and the gateway the id's hash.

A sign-in ends at log-out, after MOST_SECONDS, or when its owner has signed in MOST times since.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable
from typing import Protocol

MOST_SECONDS = 30 * 24 * 3600
MOST = 64  # of one owner; the oldest is dropped


class SignIns(Protocol):
    """Where they are kept. Only hashes of ids come in here."""

    async def begin(self, hashed: str, owner: str) -> None:
        """Keeps a new one."""

    async def owners(self, hashed: Iterable[str]) -> list[str]:
        """The owners of those that are known."""

    async def end(self, hashed: Iterable[str]) -> None:
        """Forgets those that are known."""

    async def close(self) -> None:
        """Closes connections."""


def new_id() -> str:
    """An id that can't be guessed."""
    return secrets.token_urlsafe(32)


def hash_of(given: bytes) -> str:
    return hashlib.sha256(given).hexdigest()


class InProcessSignIns:
    """SignIns of this process; they end with it."""

    def __init__(self) -> None:
        self._by_owner: dict[str, dict[str, float]] = {}  # hash -> when it ends, the oldest first

    async def begin(self, hashed: str, owner: str) -> None:
        ends = self._by_owner.setdefault(owner, {})
        ends[hashed] = time.monotonic() + MOST_SECONDS
        while len(ends) > MOST:
            del ends[next(iter(ends))]

    async def owners(self, hashed: Iterable[str]) -> list[str]:
        now = time.monotonic()
        return [
            owner
            for one in hashed
            for owner, ends in self._by_owner.items()
            if ends.get(one, now) > now
        ]

    async def end(self, hashed: Iterable[str]) -> None:
        for one in hashed:
            for ends in self._by_owner.values():
                ends.pop(one, None)

    async def close(self) -> None:
        self._by_owner.clear()
