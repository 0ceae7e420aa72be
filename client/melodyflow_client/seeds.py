"""Which seed an edit has: asked for, the clip's last one, or a new one."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict

SEEDS = 2**31  # seeds are 0 to SEEDS - 1


def draw_seed() -> int:
    """A random seed, 0 to 2^31 - 1."""
    return secrets.randbelow(SEEDS)


class SeedMemory:
    """The last seed of each of the clips seen most recently.

    Trying strings after piano on one riff then shares the seed, and with it the inversion, which
    the server keeps.
    """

    def __init__(self, capacity: int = 256) -> None:
        self._capacity = capacity
        self._seeds: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def choose(self, digest: str, seed: int | None = None, new_take: bool = False) -> int:
        """The seed for the clip of this digest, remembered as its last; -1 counts as a new take."""
        with self._lock:
            if seed is None or seed == -1:
                known = None if new_take or seed == -1 else self._seeds.get(digest)
                seed = draw_seed() if known is None else known
            if not 0 <= seed < SEEDS:
                return seed  # the server refuses it: not a seed to come back to
            self._seeds[digest] = seed
            self._seeds.move_to_end(digest)
            while len(self._seeds) > self._capacity:
                self._seeds.popitem(last=False)
            return seed
