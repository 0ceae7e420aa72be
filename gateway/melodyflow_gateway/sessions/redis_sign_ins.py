"""Sign-ins in Redis, which several gateways share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from ..door.sign_ins import MOST, MOST_SECONDS
from .redis import connect, reached

# KEYS: the sign-in, those of its owner. ARGV: owner, seconds to keep, how many are kept.
_BEGIN = """
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('RPUSH', KEYS[2], KEYS[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
while redis.call('LLEN', KEYS[2]) > tonumber(ARGV[3]) do
  redis.call('DEL', redis.call('LPOP', KEYS[2]))
end
"""

# KEYS: sign-ins. ARGV: what the names of their owners' lists begin with.
_END = """
for _, key in ipairs(KEYS) do
  local owner = redis.call('GET', key)
  if owner then
    redis.call('DEL', key)
    redis.call('LREM', ARGV[1] .. owner, 1, key)
  end
end
"""

_LIST = "melodyflow:sign-ins:"  # and the owner


class RedisSignIns:
    """SignIns. Raises Unreachable where Redis doesn't answer."""

    def __init__(self, url: str) -> None:
        self._redis = connect(url)

    async def begin(self, hashed: str, owner: str) -> None:
        arguments = _name(hashed), _LIST + owner, owner, MOST_SECONDS, MOST
        await reached(self._redis.eval(_BEGIN, 2, *cast(Any, arguments)))

    async def owners(self, hashed: Iterable[str]) -> list[str]:
        found = await reached(self._redis.mget([_name(one) for one in hashed]))
        return [owner.decode() for owner in found if owner is not None]

    async def end(self, hashed: Iterable[str]) -> None:
        names = [_name(one) for one in hashed]
        await reached(self._redis.eval(_END, len(names), *names, _LIST))

    async def close(self) -> None:
        await self._redis.aclose()


def _name(hashed: str) -> str:
    return f"melodyflow:sign-in:{hashed}"
