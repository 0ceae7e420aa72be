"""GPU streams: which thread uses which, and how far the step loop runs ahead.

A GPU runs behind the CPU. The loop queues the next network call while the GPU still works on the
previous one, so the GPU never waits for Python.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Gpu:
    """The streams of one GPU, and the network call it is working on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # The workers' large kernels must not delay the loop's.
        self._loop = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
        self._workers = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._running: tuple[torch.cuda.Event, torch.cuda.Event, Callable[[float], None]] | None
        self._running = None

    @contextmanager
    def loop(self) -> Iterator[None]:
        """Runs its block on the loop's stream."""
        with torch.cuda.stream(self._loop):
            yield

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Runs its block on the workers' stream, after what the loop has queued so far, and waits
        for it."""
        self._workers.wait_stream(self._loop)
        with torch.cuda.stream(self._workers):
            yield
        self._workers.synchronize()

    def give(self, *tensors: Tensor) -> None:
        """Passes tensors from the workers to the loop: their memory isn't reused until the loop's
        work on them is done."""
        for tensor in tensors:
            tensor.record_stream(self._loop)

    def queue(self, work: Callable[[], T], done: Callable[[float], None]) -> T:
        """Queues a network call and waits for the previous one. `done(seconds)` is called when this
        one has finished, by a later `queue` or `settle`."""
        begin, end = _event(), _event()
        begin.record()
        result = work()
        end.record()
        self.settle()
        self._running = (begin, end, done)
        return result

    def settle(self) -> None:
        """Waits for the running network call, if any."""
        if self._running is None:
            return
        begin, end, done = self._running
        self._running = None
        end.synchronize()
        done(begin.elapsed_time(end) / 1000)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
