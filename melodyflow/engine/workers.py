"""Threads that work beside the loop, shared fairly among owners."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

from melodyflow.engine.precedence import Precedence

WORKERS = 3  # a long clip in one must not hold up the short ones
MOST_OF_ONE = 2  # of one owner at a time, so that one is left for whoever comes


@dataclass(eq=False)
class _Work:
    owner: str
    run: Callable[[], None]
    future: Future[None] = field(default_factory=Future)


class Workers:
    """Runs what is submitted, first that of the owner who has the fewest at work."""

    def __init__(self, name: str, precedence: Precedence) -> None:
        self._precedence = precedence
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix=name)
        self._lock = Lock()
        self._waiting: list[_Work] = []  # longest waiting first
        self._busy: Counter[str] = Counter()

    def submit(self, owner: str, run: Callable[[], None]) -> Future[None]:
        """Runs it soon. Raises RuntimeError after shutdown()."""
        work = _Work(owner, run)
        self._precedence.queue(owner)
        with self._lock:
            self._waiting.append(work)
        self._pool.submit(self._work)
        return work.future

    def shutdown(self) -> None:
        """Does what was submitted and joins the threads."""
        self._pool.shutdown()

    def _work(self) -> None:
        """Works until nothing may begin. What an owner has too much of is begun by the thread that
        finishes something of theirs."""
        while (work := self._next()) is not None:
            try:
                with self._precedence.work_of(work.owner, queued=True):
                    if work.future.set_running_or_notify_cancel():
                        work.run()
                        work.future.set_result(None)
            except BaseException as error:
                work.future.set_exception(error)
            finally:
                with self._lock:
                    self._busy[work.owner] -= 1
                    if not self._busy[work.owner]:
                        del self._busy[work.owner]

    def _next(self) -> _Work | None:
        with self._lock:
            if not self._waiting:
                return None
            work = min(self._waiting, key=lambda waiting: self._busy[waiting.owner])
            if self._busy[work.owner] >= MOST_OF_ONE:
                return None
            self._waiting.remove(work)
            self._busy[work.owner] += 1
            return work
