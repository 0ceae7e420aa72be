"""Blocks that Ctrl-C does not interrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that would raise in this block (Ctrl-C) do so at its end: a process that is started
    or ended in it is known afterwards, and nothing of it is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield  # which no signal interrupts
        return
    came: list[int] = []
    handlers = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(handler := signal.getsignal(number))
    }
    for caught in handlers:
        signal.signal(caught, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for caught, handler in handlers.items():
            signal.signal(caught, handler)
        for number in came:
            signal.raise_signal(number)
