"""Sessions in this process, bounded by number, bytes and age."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from melodyflow_client.seeds import LastSeeds

from ..problems import RETRY_SECONDS, Problem
from .store import SEEDS_KEPT, JobRecord, SessionKey


@dataclass
class _Session:
    seeds: LastSeeds = field(default_factory=lambda: LastSeeds(SEEDS_KEPT))
    record: JobRecord | None = None
    original: bytes | None = None
    result: bytes | None = None
    undone: bool = False  # the result is
    used: float = 0.0  # time.monotonic() of the last use
    polled: float = 0.0  # time.monotonic() of the last poll of the job

    @property
    def bytes(self) -> int:
        return len(self.original or b"") + len(self.result or b"")

    @property
    def running(self) -> bool:
        return self.record is not None and self.record.running


class InProcessSessions:
    """A SessionStore. Sessions used longest ago make room for new ones, unless their job runs.

    poll_seconds: after so long without a poll, a polled job isn't wanted any more.
    """

    def __init__(self, sessions: int, size: int, seconds: float, poll_seconds: float) -> None:
        self._most, self._size, self._seconds = sessions, size, seconds
        self._poll_seconds = poll_seconds
        self._sessions: OrderedDict[SessionKey, _Session] = OrderedDict()  # by their last use
        self._bytes = 0
        self._sweeping: asyncio.TimerHandle | None = None

    async def seed(self, key: SessionKey, clip: str, seed: int | None, new_take: bool) -> int:
        return self._session(key).seeds.choose(clip, seed, new_take)

    async def begin(self, key: SessionKey, record: JobRecord) -> None:
        session = self._session(key)
        session.record, session.polled = record, time.monotonic()

    async def report(self, key: SessionKey, record: JobRecord) -> bool:
        session = self._sessions.get(key)
        if session is None or session.record is None or session.record.job != record.job:
            return False
        session.record = record
        self._touch(key)
        return not record.polled or time.monotonic() - session.polled < self._poll_seconds

    async def finish(
        self,
        key: SessionKey,
        record: JobRecord,
        original: bytes | None = None,
        result: bytes | None = None,
    ) -> bool:
        session = self._sessions.get(key)
        if session is None or session.record is None or session.record.job != record.job:
            return False
        if result is not None:
            self._store(key, session, original, result)
            session.undone = False
        session.record = record
        self._touch(key)
        return True

    async def poll(self, key: SessionKey) -> tuple[JobRecord, bytes | None] | None:
        session = self._known(key)
        if session is None or session.record is None:
            return None
        session.polled = time.monotonic()
        done = session.record.status == "completed"
        return session.record, session.result if done else None

    async def consume(self, key: SessionKey, job: str) -> None:
        session = self._sessions.get(key)
        if session is not None and session.record is not None and session.record.job == job:
            self._store(key, session, session.original, None)

    async def original(self, key: SessionKey) -> bytes | None:
        session = self._known(key)
        return session.original if session else None

    async def undo(self, key: SessionKey) -> bytes | None:
        session = self._known(key)
        if session is None:
            return None
        session.undone = True
        return session.original

    async def latest(self, key: SessionKey) -> bytes | None:
        session = self._known(key)
        if session is None:
            return None
        return session.original if session.undone or session.result is None else session.result

    async def sizes(self) -> tuple[int, int] | None:
        self._forget_old()
        return len(self._sessions), self._bytes

    async def ping(self) -> bool:
        return True

    async def close(self) -> None:
        self._sessions.clear()
        self._bytes = 0
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _known(self, key: SessionKey) -> _Session | None:
        self._forget_old()
        session = self._sessions.get(key)
        if session is not None:
            self._touch(key)
        return session

    def _touch(self, key: SessionKey) -> None:
        self._sessions[key].used = time.monotonic()
        self._sessions.move_to_end(key)

    def _session(self, key: SessionKey) -> _Session:
        session = self._known(key)
        if session is None:
            while len(self._sessions) >= self._most:
                self._drop_one(key)
            session = self._sessions[key] = _Session(used=time.monotonic())
            if self._sweeping is None:
                self._sweep()
        return session

    def _store(
        self, key: SessionKey, session: _Session, original: bytes | None, result: bytes | None
    ) -> None:
        more = len(original or b"") + len(result or b"") - session.bytes
        over = self._bytes + more - self._size
        if over > 0:
            idle = sum(s.bytes for k, s in self._sessions.items() if k != key and not s.running)
            if idle < over:  # drop nobody for what wouldn't fit anyway
                raise Problem(
                    503, "no room for this session's audio; try again later", RETRY_SECONDS
                )
        while self._bytes + more > self._size:
            self._drop_one(key)
        session.original, session.result = original, result
        self._bytes += more

    def _drop_one(self, kept: SessionKey) -> None:
        for key, session in self._sessions.items():
            if key != kept and not session.running:
                self._drop(key)
                return
        raise Problem(503, "no room for another session; try again later", RETRY_SECONDS)

    def _sweep(self) -> None:
        """Forgets old sessions, also when no request comes in."""
        self._forget_old()
        self._sweeping = None
        if self._sessions:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(self._seconds, self._sweep)

    def _forget_old(self) -> None:
        oldest = time.monotonic() - self._seconds
        for key, session in list(self._sessions.items()):
            if session.used >= oldest:
                break
            if not session.running:
                self._drop(key)

    def _drop(self, key: SessionKey) -> None:
        self._bytes -= self._sessions.pop(key).bytes
