"""Sessions in Redis, which several gateways share.

Each session has two keys, which expire a while after their last use: a hash with the job's record
(`state`, in JSON), its id and the two audio files, and a hash of seeds by clip. Age bounds how much
is kept here, and Redis' own `maxmemory`.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from melodyflow_client.contract import draw_seed, new_seed

from ..problems import RETRY_SECONDS, Problem
from .store import POLL_SECONDS, SEEDS_KEPT, JobRecord, SessionKey

log = logging.getLogger(__name__)

Value = TypeVar("Value")

# KEYS: session. ARGV: job, record, seconds to keep, the time, and more fields with their values.
# Leaves another job alone, and writes anew what Redis lost meanwhile (evicted, restarted).
# -> when the job was last polled, seconds since 1970; nil: another job has replaced it.
_WRITE = """
local job = redis.call('HGET', KEYS[1], 'job')
if job and job ~= ARGV[1] then return nil end
redis.call('HSET', KEYS[1], 'job', ARGV[1], 'state', ARGV[2], unpack(ARGV, 5))
redis.call('HSETNX', KEYS[1], 'polled', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return redis.call('HGET', KEYS[1], 'polled')
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


class RedisSessions:
    """A SessionStore. `url` as redis-py takes it: redis://, rediss:// or unix://."""

    def __init__(self, url: str, seconds: float) -> None:
        self._redis: Redis = Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5)
        self._seconds = math.ceil(seconds)

    async def seed(self, key: SessionKey, clip: str, seed: int | None, new_take: bool) -> int:
        chosen = new_seed(seed, new_take)
        arguments = (clip, draw_seed(), "" if chosen is None else chosen, self._seconds, SEEDS_KEPT)
        return int(await self._run(self._redis.eval(_SEED, 1, _seeds(key), *arguments)))

    async def begin(self, key: SessionKey, record: JobRecord) -> None:
        fields = {"job": record.job, "state": _dump(record), "polled": time.time()}
        pipe = self._redis.pipeline(transaction=True)
        pipe.hdel(_name(key), "result")
        pipe.hset(_name(key), mapping=cast(Any, fields))
        pipe.expire(_name(key), self._seconds)
        await self._run(pipe.execute())

    async def report(self, key: SessionKey, record: JobRecord) -> bool:
        polled = await self._write(key, record)
        if polled is None:
            return False
        return not record.polled or time.time() - float(polled) < POLL_SECONDS

    async def finish(
        self,
        key: SessionKey,
        record: JobRecord,
        original: bytes | None = None,
        result: bytes | None = None,
    ) -> bool:
        audio = {"original": original, "result": result}
        more = [part for field in audio.items() if field[1] is not None for part in field]
        return await self._write(key, record, *cast(list[Any], more)) is not None

    async def poll(self, key: SessionKey) -> tuple[JobRecord, bytes | None] | None:
        record, result = await self._run(
            cast(Awaitable[list[Any]], self._redis.hmget(_name(key), ["state", "result"]))
        )
        if record is None:
            return None
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(_name(key), "polled", str(time.time()))
        pipe.expire(_name(key), self._seconds)
        await self._run(pipe.execute())
        return JobRecord.read(json.loads(record)), result

    async def original(self, key: SessionKey) -> bytes | None:
        found = self._redis.hget(_name(key), "original")
        return cast(bytes | None, await self._run(cast(Awaitable[Any], found)))

    async def sizes(self) -> tuple[int, int] | None:
        return None

    async def ping(self) -> bool:
        try:
            return bool(await self._redis.ping())
        except (RedisError, OSError):
            return False

    async def close(self) -> None:
        await self._redis.aclose()

    async def _write(self, key: SessionKey, record: JobRecord, *more: str | bytes) -> bytes | None:
        arguments = (record.job, _dump(record), self._seconds, time.time(), *more)
        done = self._redis.eval(_WRITE, 1, _name(key), *cast(Any, arguments))
        return cast(bytes | None, await self._run(done))

    async def _run(self, command: Awaitable[Value] | Any) -> Any:
        try:
            return await command
        except (RedisError, OSError) as error:
            log.error("Redis failed", extra={"reason": str(error)})
            raise Problem(503, "the sessions can't be reached; try again", RETRY_SECONDS) from None


def _name(key: SessionKey) -> str:
    return f"melodyflow:session:{key.owner}:{key.name}"


def _seeds(key: SessionKey) -> str:
    return f"melodyflow:seeds:{key.owner}:{key.name}"


def _dump(record: JobRecord) -> str:
    return json.dumps(record.as_dict())
