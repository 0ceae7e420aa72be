"""A cache of tensors that edits share: limited in bytes, least recently used evicted first."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

log = logging.getLogger(__name__)


class Cache:
    """A cache of tensors. Callers must not modify them.

    A tensor that is no longer finite is dropped, not returned: it would fail every edit that
    shares it.
    """

    def __init__(
        self,
        max_bytes: int,
        on_change: Callable[[int], None] = lambda held: None,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`on_change(held)` is called with the bytes held whenever they change, in order. It must
        be quick and must not use the cache. `waiting`: entered while a thread waits for what
        another one makes."""
        self._max_bytes = max_bytes
        self._on_change = on_change
        self._waiting = waiting
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._making: dict[Hashable, Future[Tensor]] = {}
        self.bytes = 0

    def get(self, key: Hashable) -> Tensor | None:
        """The tensor for a key, if it is cached."""
        with self._lock:
            return self._find(key)

    def put(self, key: Hashable, value: Tensor) -> None:
        """Caches a tensor, replaces the key's previous one, and evicts others over the limit. A
        tensor larger than the limit is not cached, and nothing is evicted for it."""
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
        """The tensor for a key, and whether it was cached. It is made once, even if several threads
        ask at the same time.

        If `make` raises, all waiting threads get its error.
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
            return making.result(), False
        with self._waiting():
            return making.result(), True

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
