"""What edits share: tensors by key, bound in bytes, least recently used out first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from torch import Tensor


class Cache:
    """A cache of tensors. Whoever gets one must not change it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._making: dict[Hashable, Future[Tensor]] = {}
        self.bytes = 0

    def get(self, key: Hashable) -> Tensor | None:
        """The tensor of a key, if it is held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Hashable, value: Tensor) -> None:
        """Holds a tensor; what is over the bound goes, this one too if it is larger than all."""
        with self._lock:
            self._drop(key)
            self._held[key] = value
            self.bytes += value.nbytes
            while self.bytes > self._max_bytes:
                self._drop(next(iter(self._held)))

    def drop(self, key: Hashable) -> None:
        """Forgets a key."""
        with self._lock:
            self._drop(key)

    def get_or_make(self, key: Hashable, make: Callable[[], Tensor]) -> tuple[Tensor, bool]:
        """The tensor of a key and whether it was there; made once, even when many ask at a time.

        Where `make` raises, all who wait for it get its error.
        """
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key], True
            making = self._making.get(key)
            mine = making is None
            if making is None:
                making = self._making[key] = Future()
        if mine:
            try:
                value = make()
                self.put(key, value)
                making.set_result(value)
            except BaseException as error:
                making.set_exception(error)
            finally:
                with self._lock:
                    del self._making[key]
        return making.result(), not mine

    def _drop(self, key: Hashable) -> None:
        value = self._held.pop(key, None)
        if value is not None:
            self.bytes -= value.nbytes
