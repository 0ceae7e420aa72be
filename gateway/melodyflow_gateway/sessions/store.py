"""What the gateway remembers of a session: seeds by clip, its last edit, and the audio for undo.

A session belongs to the owner of the token that made it: others who know its name find nothing.
At any time a session has at most one *job*, an edit that goes on behind its request; a newer one
takes its place.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NamedTuple, Protocol, Self

SEEDS_KEPT = 256  # clips of one session whose seed is known
# Nobody has asked after a polled job for so long: its client is gone.
POLL_SECONDS = 60.0
# A job that is not written for so long has died with its gateway.
SILENT_SECONDS = 30.0

JobStatus = Literal["queued", "warming", "processing", "completed", "failed"]


class SessionKey(NamedTuple):
    """owner: of the token that made it. name: session_id, as clients know it."""

    owner: str
    name: str


def new_session_id() -> str:
    """An id that cannot be guessed."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class JobState:
    """How far a job is.

    progress: 0-100. position, total: in the line of those that wait in its gateway.
    polled: its client asks after it, so that its silence means that it is gone.
    at: seconds since 1970 when this was written.
    """

    job: str
    polled: bool = False
    status: JobStatus = "queued"
    progress: float = 0.0
    position: int = 0
    total: int = 0
    estimated_seconds: float | None = None
    seed: int | None = None
    variation: str | None = None
    error: str | None = None
    at: float = field(default_factory=time.time)

    @property
    def running(self) -> bool:
        return self.status not in ("completed", "failed")

    def as_dict(self) -> dict[str, Any]:
        """As JSON can carry it; `read` is the way back."""
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """What a gateway has written, perhaps a newer one: fields that this one does not know are
        left out. During an upgrade both share one Redis."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


class SessionStore(Protocol):
    """Where sessions are kept. Raises Problem: 503 where it is full or gone."""

    async def seed(self, key: SessionKey, clip: str, seed: int | None, new_take: bool) -> int:
        """The seed for a clip (its digest), kept as its last: as contract.new_seed says."""

    async def begin(self, key: SessionKey, state: JobState) -> None:
        """A job begins, takes the place of the one before, and its result is forgotten."""

    async def report(self, key: SessionKey, state: JobState) -> bool:
        """Writes a job's state. False: another job has taken its place, or a polled one is not
        asked after any more (POLL_SECONDS)."""

    async def finish(
        self,
        key: SessionKey,
        state: JobState,
        original: bytes | None = None,
        result: bytes | None = None,
    ) -> bool:
        """Writes a job's last state and, where it is done, the audio before it and after: what
        fails leaves the undo of the edit before it. False: another job has taken its place."""

    async def poll(self, key: SessionKey) -> tuple[JobState, bytes | None] | None:
        """The state and, when completed, the audio; None where there is no job. Asking counts as
        a sign of life."""

    async def original(self, key: SessionKey) -> bytes | None:
        """The audio before the last edit that was done; None where there is none."""

    async def sizes(self) -> tuple[int, int] | None:
        """Sessions and their bytes of audio; None where that is not known."""

    async def ping(self) -> bool:
        """Whether it can be reached."""

    async def close(self) -> None:
        """Lets go of connections."""
