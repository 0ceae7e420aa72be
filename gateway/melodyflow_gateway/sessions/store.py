"""What the gateway keeps of a session: seeds by clip, its last edit, and the audio for undo.

A session belongs to the owner of the token that made it: others who know its name find nothing.
A session has at most one *job* at a time, an edit that outlives its request; a newer one replaces
it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, Protocol, Self

from ..problems import RETRY_SECONDS, Problem

SEEDS_KEPT = 256  # clips of one session whose seed is known
# A job that isn't written for so long has died with its gateway.
SILENT_SECONDS = 30.0

JobStatus = Literal["queued", "warming", "processing", "completed", "failed"]


class SessionKey(NamedTuple):
    """owner: of the token that made it. name: session_id, as clients know it."""

    owner: str
    name: str


def new_session_id() -> str:
    """An id that can't be guessed."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far an edit is.

    progress: 0 to 100. position, total: in the line of those that wait in its gateway.
    at: seconds since 1970 when this was known.
    """

    status: JobStatus = "queued"
    progress: float = 0.0
    position: int = 0
    total: int = 0
    estimated_seconds: float | None = None
    at: float = field(default_factory=time.time)

    @property
    def running(self) -> bool:
        return self.status not in ("completed", "failed")


@dataclass(frozen=True)
class JobRecord(Standing):
    """A job as a session keeps it.

    job: its id. polled: its client polls it, so that silence means that the client is gone.
    warnings: what was guessed or repaired in the clip, in sentences.
    """

    job: str
    seed: int
    polled: bool = False
    variation: str | None = None
    error: str | None = None
    warnings: Sequence[str] = ()

    def failed(self, reason: str) -> Self:
        """The record of a job that came to nothing."""
        return replace(self, status="failed", error=reason, at=time.time(), estimated_seconds=None)

    def as_dict(self) -> dict[str, Any]:
        """As JSON can carry it; `read` is the way back."""
        return {**asdict(self), "warnings": list(self.warnings)}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """A record that another gateway wrote. Fields that this one doesn't know are left out:
        during an upgrade both share one Redis."""
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in values.items() if name in known}
        return cls(**{**given, "warnings": tuple(given.get("warnings", ()))})


class Unreachable(Problem):
    """The store doesn't answer, and may in a moment."""

    def __init__(self, message: str) -> None:
        super().__init__(503, message, RETRY_SECONDS)


class SessionStore(Protocol):
    """Where sessions are kept. Raises Problem: 503 where it is full, Unreachable where gone."""

    async def seed(self, key: SessionKey, clip: str, seed: int | None, new_take: bool) -> int:
        """The seed for a clip (its digest), kept as its last: as contract.new_seed says."""

    async def begin(self, key: SessionKey, record: JobRecord) -> None:
        """Begins a job, which replaces the one before; the audio stays until it is done."""

    async def report(self, key: SessionKey, record: JobRecord) -> bool:
        """Writes how far a job is. False: it is replaced, or its client stopped
        polling."""

    async def finish(
        self,
        key: SessionKey,
        record: JobRecord,
        original: bytes | None = None,
        result: bytes | None = None,
    ) -> bool:
        """Writes how a job ended and, where it is done, the audio before it and after. A job that
        failed leaves the undo of the one before. False: it is replaced."""

    async def poll(self, key: SessionKey) -> tuple[JobRecord, bytes | None] | None:
        """The session's job and, when completed, its audio; None without a job. Keeps a polled
        job alive."""

    async def consume(self, key: SessionKey, job: str) -> None:
        """Drops a job's result, unless another job has replaced it."""

    async def original(self, key: SessionKey) -> bytes | None:
        """The audio before the last edit that was done; None where there is none."""

    async def undo(self, key: SessionKey) -> bytes | None:
        """The same, from which the session goes on."""

    async def latest(self, key: SessionKey) -> bytes | None:
        """What the session goes on from: the result of the last edit that was done, or the audio
        before it where that was undone or consumed; None where there is none."""

    async def sizes(self) -> tuple[int, int] | None:
        """The number of sessions and their bytes of audio; None where that is unknown."""

    async def ping(self) -> bool:
        """Whether it can be reached."""

    async def close(self) -> None:
        """Closes connections."""
