"""Blocks that Ctrl-C does not interrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Delays signals that would raise in this block (Ctrl-C) to its end, so that a process started
    or stopped inside is always recorded and cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals only interrupt the main thread
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
