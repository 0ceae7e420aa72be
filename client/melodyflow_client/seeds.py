"""Which seed an edit has: asked for, the clip's last one, or a new one."""

from __future__ import annotations

import threading
from collections import OrderedDict

from .contract import SEEDS, draw_seed, new_seed


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
        """The seed for the clip of this digest, remembered as its last."""
        with self._lock:
            seed = new_seed(seed, new_take)
            if seed is None:
                seed = self._seeds.get(digest, draw_seed())
            if not 0 <= seed < SEEDS:
                return seed  # the server refuses it: not a seed to come back to
            self._seeds[digest] = seed
            self._seeds.move_to_end(digest)
            while len(self._seeds) > self._capacity:
                self._seeds.popitem(last=False)
            return seed
