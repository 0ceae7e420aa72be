"""What edits share: tensors by key, bound in bytes, least recently used out first."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class Cache:
    """A cache of tensors. Whoever gets one must not change it.

    One that is no longer finite is forgotten, not handed out: it would end every edit that shares
    it, again and again.
    """

    def __init__(
        self, max_bytes: int, on_change: Callable[[int], None] = lambda held: None
    ) -> None:
        """`on_change(held)` is told how many bytes are held whenever that changes, one change
        after the other: it must be quick and not use the cache."""
        self._max_bytes = max_bytes
        self._on_change = on_change
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._making: dict[Hashable, Future[Tensor]] = {}
        self.bytes = 0

    def get(self, key: Hashable) -> Tensor | None:
        """The tensor of a key, if it is held."""
        with self._lock:
            return self._find(key)

    def put(self, key: Hashable, value: Tensor) -> None:
        """Holds a tensor in place of the key's former one; what is over the bound goes. One that
        is above the bound by itself is not held, and nothing goes for it."""
        with self._lock:
            before = self.bytes
            self._drop(key)
            if value.nbytes <= self._max_bytes:
                self._held[key] = value
                self.bytes += value.nbytes
                while self.bytes > self._max_bytes:
                    self._drop(next(iter(self._held)))
            if self.bytes != before:
                self._on_change(self.bytes)

    def get_or_make(self, key: Hashable, make: Callable[[], Tensor]) -> tuple[Tensor, bool]:
        """The tensor of a key and whether it was there; made once, even when many ask at a time.

        Where `make` raises, all who wait for it get its error.
        """
        with self._lock:
            held = self._find(key)
            if held is not None:
                return held, True
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

    def _find(self, key: Hashable) -> Tensor | None:
        value = self._held.get(key)
        if value is None:
            return None
        if not torch.isfinite(value).all():
            log.error("a cached tensor is not finite; computing it again")
            self._drop(key)
            self._on_change(self.bytes)
            return None
        self._held.move_to_end(key)
        return value

    def _drop(self, key: Hashable) -> None:
        value = self._held.pop(key, None)
        if value is not None:
            self.bytes -= value.nbytes
