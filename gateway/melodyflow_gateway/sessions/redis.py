"""Sessions in Redis, which several gateways share.

Each session has two keys, which expire a while after their last use: a hash with the job's record
(`state`, in JSON), its id and the two audio files, and a hash of seeds by clip. Age bounds how much
is kept here, and Redis' own `maxmemory`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, RedisError

from melodyflow_client.contract import draw_seed, new_seed

from .store import (
    SEEDS_KEPT,
    SILENT_SECONDS,
    JobRecord,
    SessionKey,
    Unreachable,
)

log = logging.getLogger(__name__)

_TRIES = 12  # of a command, within about nine seconds
_KEEP_SECONDS = 1.0  # for what an edit can do without
_PING_SECONDS = 0.7  # /health is answered within a second
# Gateways write their running jobs every second, and notice within a few that Redis is back.
_RESTORED_SECONDS = 15

# All times are Redis' own: the clocks of two gateways need not agree. `at` is when its gateway last
# wrote a job, with the job's id: a gateway of an earlier version doesn't write it.
_NOW = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
"""

# KEYS: session. ARGV: job, record, seconds to keep.
_BEGIN = f"""{_NOW}
redis.call('HSET', KEYS[1], 'job', ARGV[1], 'state', ARGV[2], 'polled', now,
  'at', ARGV[1] .. ' ' .. now)
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""

# KEYS: session. ARGV: job, record, seconds to keep, and more fields with their values.
# Leaves another job alone, and writes anew what Redis lost meanwhile (evicted, restarted).
# -> for how many seconds the job wasn't polled; nil: another job has replaced it.
_WRITE = f"""{_NOW}
local job = redis.call('HGET', KEYS[1], 'job')
if job and job ~= ARGV[1] then return nil end
redis.call('HSET', KEYS[1], 'job', ARGV[1], 'state', ARGV[2], 'at', ARGV[1] .. ' ' .. now,
  unpack(ARGV, 4))
redis.call('HSETNX', KEYS[1], 'polled', now)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return tostring(now - redis.call('HGET', KEYS[1], 'polled'))
"""

# KEYS: session. -> its job's record, and the result if that is the job's own; nil: no such session.
_READ = """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return nil end
if cjson.decode(state)['status'] ~= 'completed' then return {state, false} end
return {state, redis.call('HGET', KEYS[1], 'result')}
"""

# KEYS: session. ARGV: seconds to keep. -> for how many seconds its job wasn't written, with the
# job's id before it; nil: not known.
_POLL = f"""{_NOW}
if redis.call('EXISTS', KEYS[1]) == 0 then return nil end
redis.call('HSET', KEYS[1], 'polled', now)
redis.call('EXPIRE', KEYS[1], ARGV[1])
local at = redis.call('HGET', KEYS[1], 'at')
if not at then return nil end
local job, written = string.match(at, '^(%S+) (%S+)$')
return job .. ' ' .. (now - written)
"""

# KEYS: session. ARGV: job. Drops its result, unless another job has replaced it.
_CONSUME = """
if redis.call('HGET', KEYS[1], 'job') == ARGV[1] then redis.call('HDEL', KEYS[1], 'result') end
"""

# KEYS: session. -> the audio before its last edit, from which it goes on.
_UNDO = """
local original = redis.call('HGET', KEYS[1], 'original')
if original then redis.call('HSET', KEYS[1], 'undone', '1') end
return original
"""

# KEYS: seeds. ARGV: clip, the seed if there is none, the seed in any case or '', seconds to keep,
# how many are kept: with one more clip all are forgotten. -> the clip's seed.
_SEED = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0
  and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then redis.call('DEL', KEYS[1]) end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
else redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return redis.call('HGET', KEYS[1], ARGV[1])
"""


def connect(url: str) -> Redis:
    """A client that waits for a restart of Redis: it may send a command twice."""
    return Redis.from_url(
        url,
        socket_timeout=10,
        socket_connect_timeout=5,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), _TRIES),
        retry_on_error=[BusyLoadingError],
    )


async def reached(command: Awaitable[Any] | Any) -> Any:
    """What a command answers. Raises Unreachable where Redis doesn't."""
    try:
        return await command
    except (RedisError, OSError) as error:
        log.error("Redis failed", extra={"reason": str(error)})
        raise Unreachable("the sessions can't be reached; try again") from None


class RedisSessions:
    """A SessionStore. `url` as redis-py takes it: redis://, rediss:// or unix://.

    seconds: until a session is forgotten. poll_seconds: after so long without a poll, a polled job
    isn't wanted any more.
    """

    def __init__(self, url: str, seconds: float, poll_seconds: float) -> None:
        self._redis = connect(url)
        self._seconds = math.ceil(seconds)
        self._poll_seconds = poll_seconds
        self._first_run: str | None = None  # of Redis, as it was first seen

    async def seed(self, key: SessionKey, clip: str, seed: int | None, new_take: bool) -> int:
        chosen = new_seed(seed, new_take)
        arguments = (clip, draw_seed(), "" if chosen is None else chosen, self._seconds, SEEDS_KEPT)
        answer = reached(self._redis.eval(_SEED, 1, _seeds(key), *arguments))
        if chosen is None:
            return int(await answer)
        # It is known: if it can't be kept, that is no reason to refuse the edit.
        with suppress(Unreachable, TimeoutError):
            await asyncio.wait_for(answer, _KEEP_SECONDS)
        return chosen

    async def begin(self, key: SessionKey, record: JobRecord) -> None:
        if self._first_run is None:
            await self._check_complete()
        arguments = (record.job, _dump(record), self._seconds)
        await reached(self._redis.eval(_BEGIN, 1, _name(key), *cast(Any, arguments)))

    async def report(self, key: SessionKey, record: JobRecord) -> bool:
        unpolled = await self._write(key, record)
        return unpolled is not None and (not record.polled or float(unpolled) < self._poll_seconds)

    async def finish(
        self,
        key: SessionKey,
        record: JobRecord,
        original: bytes | None = None,
        result: bytes | None = None,
    ) -> bool:
        audio = {"original": original, "result": result, "undone": b""}
        fields = {} if result is None else audio
        parts = [part for field in fields.items() if field[1] is not None for part in field]
        return await self._write(key, record, *cast(list[Any], parts)) is not None

    async def poll(self, key: SessionKey) -> tuple[JobRecord, bytes | None] | None:
        found = await reached(self._redis.eval(_READ, 1, _name(key)))
        if found is None:
            await self._check_complete()
            return None
        state, result = found
        written = await reached(self._redis.eval(_POLL, 1, _name(key), str(self._seconds)))
        record = JobRecord.read(json.loads(state))
        if record.running and _silence(record, written) > SILENT_SECONDS:
            record = record.failed("the gateway that ran this edit is gone; send the edit again")
        return record, result

    async def consume(self, key: SessionKey, job: str) -> None:
        await reached(self._redis.eval(_CONSUME, 1, _name(key), job))

    async def _check_complete(self) -> None:
        """Raises Unreachable while Redis may have lost what gateways are about to write again."""
        server = await reached(self._redis.info("server"))
        if self._first_run is None:
            self._first_run = server["run_id"]
        restarted = server["run_id"] != self._first_run
        if restarted and server["uptime_in_seconds"] < _RESTORED_SECONDS:
            raise Unreachable("Redis was restarted, and sessions are being restored; try again")

    async def original(self, key: SessionKey) -> bytes | None:
        found = self._redis.hget(_name(key), "original")
        return cast(bytes | None, await reached(cast(Awaitable[Any], found)))

    async def undo(self, key: SessionKey) -> bytes | None:
        return cast(bytes | None, await reached(self._redis.eval(_UNDO, 1, _name(key))))

    async def latest(self, key: SessionKey) -> bytes | None:
        fields = ["result", "original", "undone"]
        found = self._redis.hmget(_name(key), fields)
        result, original, undone = await reached(cast(Awaitable[list[Any]], found))
        return cast(bytes | None, original if undone or result is None else result)

    async def sizes(self) -> tuple[int, int] | None:
        return None

    async def ping(self) -> bool:
        try:
            return bool(await asyncio.wait_for(self._redis.ping(), _PING_SECONDS))
        except (RedisError, OSError, TimeoutError):
            return False

    async def close(self) -> None:
        await self._redis.aclose()

    async def _write(self, key: SessionKey, record: JobRecord, *more: str | bytes) -> bytes | None:
        arguments = (record.job, _dump(record), self._seconds, *more)
        done = self._redis.eval(_WRITE, 1, _name(key), *cast(Any, arguments))
        return cast(bytes | None, await reached(done))


def _silence(record: JobRecord, written: bytes | None) -> float:
    """Seconds since a job was written, by Redis' clock; by ours where an earlier version did."""
    job, _, seconds = (written or b"").decode().partition(" ")
    return float(seconds) if job == record.job else time.time() - record.at


def _name(key: SessionKey) -> str:
    return f"melodyflow:session:{key.owner}:{key.name}"


def _seeds(key: SessionKey) -> str:
    return f"melodyflow:seeds:{key.owner}:{key.name}"


def _dump(record: JobRecord) -> str:
    return json.dumps(record.as_dict())
