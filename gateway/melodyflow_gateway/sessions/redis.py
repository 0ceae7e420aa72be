"""Sessions in Redis, so that any gateway of a fleet knows them.

Two keys a session, which Redis forgets a while after their last use: a hash with the job's state
(JSON), its id and the two audio files, and a hash of seeds by clip. How much is kept is bounded by
age here, and by Redis' own `maxmemory`.
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
from .store import POLL_SECONDS, SEEDS_KEPT, JobState, SessionKey

log = logging.getLogger(__name__)

Value = TypeVar("Value")

# KEYS: session. ARGV: job, state, seconds to keep, the time, and more fields with their values.
# What another job has begun is left alone; what Redis has lost meanwhile (evicted, restarted) is
# written anew. -> when the job was last asked after, seconds since 1970; nil.
_WRITE = """
local job = redis.call('HGET', KEYS[1], 'job')
if job and job ~= ARGV[1] then return nil end
redis.call('HSET', KEYS[1], 'job', ARGV[1], 'state', ARGV[2], unpack(ARGV, 5))
redis.call('HSETNX', KEYS[1], 'polled', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return redis.call('HGET', KEYS[1], 'polled')
"""

# KEYS: seeds. ARGV: clip, the seed if there is none, the seed in any case or '', seconds to keep,
# how many are kept: one more clip than that, and all are forgotten. -> the clip's seed.
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

    async def begin(self, key: SessionKey, state: JobState) -> None:
        fields = {"job": state.job, "state": _dump(state), "polled": time.time()}
        pipe = self._redis.pipeline(transaction=True)
        pipe.hdel(_name(key), "result")
        pipe.hset(_name(key), mapping=cast(Any, fields))
        pipe.expire(_name(key), self._seconds)
        await self._run(pipe.execute())

    async def report(self, key: SessionKey, state: JobState) -> bool:
        polled = await self._write(key, state)
        if polled is None:
            return False
        return not state.polled or time.time() - float(polled) < POLL_SECONDS

    async def finish(
        self,
        key: SessionKey,
        state: JobState,
        original: bytes | None = None,
        result: bytes | None = None,
    ) -> bool:
        audio = {"original": original, "result": result}
        more = [part for field in audio.items() if field[1] is not None for part in field]
        return await self._write(key, state, *cast(list[Any], more)) is not None

    async def poll(self, key: SessionKey) -> tuple[JobState, bytes | None] | None:
        state, result = await self._run(
            cast(Awaitable[list[Any]], self._redis.hmget(_name(key), ["state", "result"]))
        )
        if state is None:
            return None
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(_name(key), "polled", str(time.time()))
        pipe.expire(_name(key), self._seconds)
        await self._run(pipe.execute())
        return JobState.read(json.loads(state)), result

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

    async def _write(self, key: SessionKey, state: JobState, *more: str | bytes) -> bytes | None:
        arguments = (state.job, _dump(state), self._seconds, time.time(), *more)
        done = self._redis.eval(_WRITE, 1, _name(key), *cast(Any, arguments))
        return cast(bytes | None, await self._run(done))

    async def _run(self, command: Awaitable[Value] | Any) -> Any:
        try:
            return await command
        except (RedisError, OSError) as error:
            log.error("Redis failed", extra={"reason": str(error)})
            raise Problem(503, "the sessions cannot be reached; try again", RETRY_SECONDS) from None


def _name(key: SessionKey) -> str:
    return f"melodyflow:session:{key.owner}:{key.name}"


def _seeds(key: SessionKey) -> str:
    return f"melodyflow:seeds:{key.owner}:{key.name}"


def _dump(state: JobState) -> str:
    return json.dumps(state.as_dict())
