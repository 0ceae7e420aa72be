"""Which seed an edit gets: the one asked for, the clip's last one or a new one."""

from __future__ import annotations

import threading
from collections import OrderedDict

from .contract import SEEDS, draw_seed, new_seed


class LastSeeds:
    """The last seed of each clip, for the clips used most recently.

    Strings after piano on the same riff share its seed, so the server reuses the inversion.
    """

    def __init__(self, capacity: int = 256) -> None:
        self._capacity = capacity
        self._seeds: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def choose(self, digest: str, seed: int | None = None, new_take: bool = False) -> int:
        """The seed for the clip with this digest, kept as its last one."""
        with self._lock:
            seed = new_seed(seed, new_take)
            if seed is None:
                seed = self._seeds.get(digest, draw_seed())
            if not 0 <= seed < SEEDS:
                return seed  # the server will refuse it: don't keep it
            self._seeds[digest] = seed
            self._seeds.move_to_end(digest)
            while len(self._seeds) > self._capacity:
                self._seeds.popitem(last=False)
            return seed
