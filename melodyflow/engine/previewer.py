"""Decodes previews beside the step loop, as far as there is time for them."""

import logging
import threading
from collections.abc import Callable

from torch import Tensor

from melodyflow.engine.job import Job

log = logging.getLogger(__name__)


class Previewer:
    """One thread that decodes one estimate at a time. Of each job only the newest one waits: a
    decoder that is slow drops previews and never holds up a result."""

    def __init__(self, decode: Callable[[Job, Tensor, int], None]) -> None:
        self._decode = decode
        self._changed = threading.Condition()
        self._waiting: dict[Job, tuple[Tensor, int]] = {}  # longest waiting job first
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="previewer", daemon=True)
        self._thread.start()

    def offer(self, job: Job, latents: Tensor, done: int) -> None:
        """Decodes an estimate [1, latent, frames], made after `done` evaluations, if no newer one
        comes first."""
        with self._changed:
            self._waiting[job] = latents, done
            self._changed.notify()

    def forget(self, job: Job) -> None:
        """Drops what waits of a job, whose result is there."""
        with self._changed:
            self._waiting.pop(job, None)

    def close(self) -> None:
        """Drops what waits and joins the thread."""
        with self._changed:
            self._closing = True
            self._waiting.clear()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._decode_next():
            pass

    def _decode_next(self) -> bool:
        """Decodes what has waited longest; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if self._closing:
                return False
            job = next(iter(self._waiting))
            latents, done = self._waiting.pop(job)
        try:
            self._decode(job, latents, done)
        except Exception:  # the result itself is still on its way
            log.exception("a preview could not be made")
        return True
