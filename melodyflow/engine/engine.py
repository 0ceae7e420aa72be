"""The step loop: edits join and leave it between network calls."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from melodyflow import edit
from melodyflow.engine.job import Code, EditError, Job
from melodyflow.model import MelodyFlow
from melodyflow.model.transformer import Row

log = logging.getLogger(__name__)

Network = Callable[[Sequence[Row]], list[Tensor]]
WORKERS = 2  # threads for what is not the network: reading, codec, writing


class EngineMetrics(Protocol):
    """What the engine counts."""

    def in_flight(self, edits: int) -> None:
        """Edits that hold a slot now."""

    def evaluated(self, rows: int, tokens: int, seconds: float) -> None:
        """One network call."""

    def stage(self, name: str, seconds: float) -> None:
        """One stage of one edit is over."""


class Engine:
    """Runs edits together, at most `slots` at a time.

    `acquire` a slot, then `submit` a job: the slot is free again when the job's listener has been
    told of its end. `network` is the one place through which velocities come.
    """

    def __init__(
        self,
        model: MelodyFlow,
        *,
        slots: int,
        metrics: EngineMetrics,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.network: Network = model.flow
        self._metrics = metrics
        self._on_death = on_death
        self._slots = slots
        self._changed = threading.Condition()
        self._in_flight = 0  # slots taken
        self._jobs: set[Job] = set()  # edits submitted and not ended
        self._ready: list[Job] = []  # edits that wait for a velocity
        self._closing = False
        self._dead = False
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="edit-worker")
        self._loop = threading.Thread(target=self._run, name="step-loop", daemon=True)
        self._loop.start()

    @property
    def alive(self) -> bool:
        """Whether the step loop runs."""
        return self._loop.is_alive() and not self._dead

    def acquire(self, give_up: Callable[[], EditError | None], poll: float = 0.05) -> None:
        """Waits for a free slot and takes it. Raises what `give_up` returns, asked every `poll`
        seconds."""
        while True:
            with self._changed:
                if self._closing or self._dead:
                    raise EditError(Code.UNAVAILABLE, "the server is shutting down; try again")
                if self._in_flight < self._slots:
                    self._set_in_flight(self._in_flight + 1)
                    return
            reason = give_up()
            if reason:
                raise reason
            with self._changed:
                self._changed.wait_for(lambda: self._in_flight < self._slots, poll)

    def submit(self, job: Job) -> None:
        """Starts a job on the slot that was acquired for it."""
        with self._changed:
            self._jobs.add(job)
        self._workers.submit(self._prepare, job)

    def close(self, timeout: float) -> None:
        """Takes no new edits, gives those in flight `timeout` seconds, ends the rest with
        UNAVAILABLE and joins."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._in_flight, timeout)
            for job in self._jobs:
                job.stop(EditError(Code.UNAVAILABLE, "the server is shutting down; try again"))
        self._loop.join()
        self._workers.shutdown()

    # The workers' side.

    @torch.inference_mode()
    def _prepare(self, job: Job) -> None:
        try:
            self._check(job)
            job.prepare(self.model)
            self._check(job)
        except BaseException as error:
            self._end(job, error)
            return
        with self._changed:
            self._ready.append(job)
            self._changed.notify_all()

    @torch.inference_mode()
    def _finish(self, job: Job, latents: Tensor) -> None:
        try:
            self._check(job)
            job.enter("decoding")
            waveform = self.model.decode(latents)[0].float().cpu()
            if not torch.isfinite(waveform).all():
                raise EditError(
                    Code.INTERNAL, "the edit's audio is not finite; another seed may do"
                )
            job.leave()
            self._check(job)
            job.listener.finished(waveform, job.seconds)
        except BaseException as error:
            self._end(job, error)
            return
        self._end(job)

    @staticmethod
    def _check(job: Job) -> None:
        if job.stopped:
            raise job.stopped

    def _end(self, job: Job, error: BaseException | None = None) -> None:
        """The one end of every job: its listener hears of a failure and its slot is free."""
        if isinstance(error, EditError):
            job.listener.failed(error)
        elif error is not None:
            log.error("an edit failed", exc_info=error)
            job.listener.failed(EditError(Code.INTERNAL, f"the edit failed: {error!r}"))
        for stage, seconds in job.seconds.items():
            self._metrics.stage(stage, seconds)
        with self._changed:
            self._jobs.discard(job)
            self._set_in_flight(self._in_flight - 1)
            self._changed.notify_all()

    def _set_in_flight(self, edits: int) -> None:
        self._in_flight = edits
        self._metrics.in_flight(edits)

    # The loop's side.

    @torch.inference_mode()
    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._ready or (self._closing and not self._in_flight)
                    )
                    if not self._ready:
                        return
                    jobs, self._ready = self._ready, []
                self._tick(jobs)
        except BaseException:
            log.critical("the step loop died", exc_info=True)
            self._die(jobs)

    def _tick(self, jobs: list[Job]) -> None:
        """One network call for the edits that wait for a velocity."""
        going = []
        for job in jobs:
            if job.stopped:
                self._end(job, job.stopped)
            else:
                going.append(job)
        if not going:
            return
        for job, answer in zip(going, self._evaluate(going), strict=True):
            self._advance(job, answer)

    def _evaluate(self, jobs: list[Job]) -> list[list[Tensor] | Exception]:
        """The network's answers to each job's rows; where a shared call fails, every job is asked
        for alone, so that only the one at fault ends."""
        asked = [edit.rows(job.point, job.times) for job in jobs]
        rows = [row for mine in asked for row in mine]
        started = time.monotonic()
        try:
            answers = iter(self.network(rows))
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            return [answer for job in jobs for answer in self._evaluate([job])]
        tokens = sum(row.latents.shape[-1] for row in rows)
        self._metrics.evaluated(len(rows), tokens, time.monotonic() - started)
        return [[next(answers) for _ in mine] for mine in asked]

    def _advance(self, job: Job, answer: list[Tensor] | Exception) -> None:
        """Sends a job its velocity: it then waits for the next one, is decoded or has failed."""
        try:
            if isinstance(answer, Exception):
                raise answer
            velocity = edit.velocity(job.point, answer)
            if not torch.isfinite(velocity).all():
                raise EditError(Code.INTERNAL, "the edit's velocity is not finite; it was ended")
            latents = job.answer(velocity)
        except Exception as error:
            self._end(job, error)
            return
        if latents is None:
            with self._changed:
                self._ready.append(job)
        else:
            self._workers.submit(self._finish, job, latents)

    def _die(self, jobs: list[Job]) -> None:
        with self._changed:
            self._dead = True
            left, self._ready = [*jobs, *self._ready], []
        for job in left:
            self._end(job, EditError(Code.INTERNAL, "the server's step loop died; it restarts"))
        self._on_death()
