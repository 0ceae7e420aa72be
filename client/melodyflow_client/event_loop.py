"""The event-loop thread that all synchronous clients of a process share.

gRPC's aio layer is made for one loop per process and complains about more.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None
_process = 0


def background_loop() -> asyncio.AbstractEventLoop:
    """The running loop; a forked child process gets its own."""
    global _loop, _thread, _process
    with _lock:
        if _loop is None or _process != os.getpid():
            _loop, _process = asyncio.new_event_loop(), os.getpid()
            _thread = threading.Thread(
                target=_loop.run_forever, name="melodyflow-client", daemon=True
            )
            _thread.start()
            atexit.register(_stop, _loop, _thread, _process)
        return _loop


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, process: int) -> None:
    """Cancels what still runs, so that servers hear of it before the process ends."""
    if process != os.getpid() or not thread.is_alive():
        return

    async def cancel_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await loop.shutdown_asyncgens()

    with contextlib.suppress(TimeoutError):
        asyncio.run_coroutine_threadsafe(cancel_all(), loop).result(timeout=2)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=2)
