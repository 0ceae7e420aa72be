"""A GPU's side of the step loop: who works on which stream, and how far the loop runs ahead.

A GPU works later than it is told to. The loop tells it the next network call while it still does
the one before, so that it never waits for Python.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Gpu:
    """The streams of one GPU and the network call that it works at."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # The workers' large kernels must not hold up the loop's.
        self._loop = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
        self._workers = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._running: tuple[torch.cuda.Event, torch.cuda.Event, Callable[[float], None]] | None
        self._running = None

    @contextmanager
    def loop(self) -> Iterator[None]:
        """On the loop's stream."""
        with torch.cuda.stream(self._loop):
            yield

    @contextmanager
    def beside(self) -> Iterator[None]:
        """On the workers' stream, after what the loop has queued so far; done at the end."""
        self._workers.wait_stream(self._loop)
        with torch.cuda.stream(self._workers):
            yield
        self._workers.synchronize()

    def give(self, *tensors: Tensor) -> None:
        """What workers made is the loop's to use from now on: its memory is not used again before
        the loop's work on it is done."""
        for tensor in tensors:
            tensor.record_stream(self._loop)

    def queue(self, work: Callable[[], T], done: Callable[[float], None]) -> T:
        """Queues a network call and waits until the one before is done. `done(seconds)` is called
        when this one is, by a later `queue` or `settle`."""
        begin, end = _event(), _event()
        begin.record()
        result = work()
        end.record()
        self.settle()
        self._running = (begin, end, done)
        return result

    def settle(self) -> None:
        """Waits for the network call that runs, if one does."""
        if self._running is None:
            return
        begin, end, done = self._running
        self._running = None
        end.synchronize()
        done(begin.elapsed_time(end) / 1000)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
