"""The step loop: edits join and leave it between network calls.

The loop makes one network call after the other and nothing else; beside it some workers read and
encode, others decode and write.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor

from melodyflow import edit
from melodyflow.engine import schedule
from melodyflow.engine.admission import SHUTTING_DOWN, Admission
from melodyflow.engine.cache import Cache
from melodyflow.engine.calls import CallMetrics, Calls
from melodyflow.engine.gpu import Gpu
from melodyflow.engine.job import Job, inversion_key
from melodyflow.engine.solving import Generation, Inversion, Solving
from melodyflow.engine.stages import Source, Stages
from melodyflow.errors import Code, EditError
from melodyflow.model import MelodyFlow
from melodyflow.model.transformer import Network

log = logging.getLogger(__name__)

WORKERS = 2  # that read, and that write: a long clip in one must not hold up the short ones

Work = Inversion | Generation

LOOP_DIED = EditError(Code.INTERNAL, "the server's step loop died; the server restarts")


class EngineMetrics(CallMetrics, Protocol):
    """What the engine counts."""

    def in_flight(self, edits: int, frames: int) -> None:
        """Edits that hold a slot now, and their latent frames."""

    def stage(self, name: str, seconds: float) -> None:
        """One stage of one edit is over."""

    def inversion(self, found: str) -> None:
        """An inversion was asked for: "hit", "miss" or "shared" with one in flight."""

    def cached(self, cache_bytes: int) -> None:
        """So much is held for edits to share."""


class Engine:
    """Runs edits together.

    `acquire` a slot, then `submit` a job: the slot is free again when the job's listener has been
    told of its end.
    """

    def __init__(
        self,
        model: MelodyFlow,
        *,
        slots: int,
        max_frames: int,
        max_tokens: int,
        cache_bytes: int,
        metrics: EngineMetrics,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        """`max_frames`: latent frames in flight; `max_tokens`: of one network call; `on_death` is
        called when the loop died of a fault of its own."""
        self.model = model
        self._metrics = metrics
        self._on_death = on_death
        self._admission = Admission(slots, max_frames, metrics.in_flight)
        self._cache = Cache(cache_bytes, metrics.cached)
        self._gpu = Gpu(model.device) if model.device.type == "cuda" else None
        self._stages = Stages(model, self._cache, self._gpu)
        self._calls = Calls(model.network, self._gpu, max_tokens, metrics, self._report)
        self._changed = threading.Condition()
        self._jobs: set[Job] = set()  # submitted and not ended
        self._new: list[tuple[Work, Callable[[], Solving]]] = []  # solves to begin
        self._ready: list[Solving] = []  # waiting for a velocity
        self._asked: list[Solving] = []  # in the running network call
        self._inversions: dict[object, Inversion] = {}  # in flight, by key
        self._closing = False
        self._dead = False
        self._broken: Exception | None = None  # what the device says since it answers nothing else
        self._unreported: list[tuple[Solving, int]] = []  # of the call that a GPU works at
        self._reader = ThreadPoolExecutor(WORKERS, thread_name_prefix="reader")
        self._writer = ThreadPoolExecutor(WORKERS, thread_name_prefix="writer")
        self._loop = threading.Thread(target=self._run, name="step-loop", daemon=True)
        self._loop.start()

    @property
    def network(self) -> Network:
        """The one place through which velocities come."""
        return self._calls.network

    @network.setter
    def network(self, network: Network) -> None:
        self._calls.network = network

    @property
    def alive(self) -> bool:
        """Whether the step loop runs."""
        return not self._dead

    def acquire(self, frames: int, give_up: Callable[[], EditError | None]) -> None:
        """Waits for a slot for an edit of `frames` and takes it; see `Admission.acquire`."""
        self._admission.acquire(frames, give_up)

    def wait_for_a_slot(self) -> None:
        """Waits while all slots are taken, and takes none."""
        self._admission.wait_for_a_slot()

    def submit(self, job: Job) -> None:
        """Starts a job on the slot that was acquired for it."""
        with self._changed:
            self._jobs.add(job)
        try:
            self._hand_over(job, self._reader.submit(self._prepare, job))
        except Exception as error:
            self._end(job, error)

    def close(self, timeout: float) -> None:
        """Takes no new edits, gives those in flight `timeout` seconds, ends the rest with
        UNAVAILABLE and joins."""
        self._admission.close(timeout)
        with self._changed:
            jobs = list(self._jobs)
        for job in jobs:
            job.stop(SHUTTING_DOWN)
        self._reader.shutdown()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._loop.join()
        self._writer.shutdown()

    # Beside the loop.

    def _hand_over(self, job: Job, work: "Future[None]") -> None:
        """A worker will do this for the job, if it is not to end before."""

        def end() -> None:
            if work.cancel():
                self._end(job, job.stopped)

        job.waits(end)
        with self._changed:
            if job not in self._jobs:  # the worker was quick
                job.waits(None)

    @torch.inference_mode()
    def _prepare(self, job: Job) -> None:
        """Reads the source, if there is one, and finds out whether its inversion has to be done."""
        try:
            job.check()
            if job.read is None:
                with self._stages.beside_the_loop():
                    generation, noise = self._generation(job), self._stages.noise(job)
                self._generate(generation, noise)
                return
            waveform = job.read()
            job.check()
            job.enter("encoding")
            source = Source(self._stages, job, waveform)
            with self._stages.beside_the_loop():
                generation = self._generation(job, source)
            inversion = self._join_or_begin(generation, source)
        except BaseException as error:
            self._end(job, error)
            return
        if inversion is None:
            return
        try:
            with self._stages.beside_the_loop():
                solve, windows = source.inversion()
            job.enter("inverting")
        except BaseException as error:
            self._fail(inversion, error)
            return
        times = generation.times
        self._begin(inversion, lambda: Solving(inversion, solve, times, windows))

    def _generation(self, job: Job, source: Source | None = None) -> Generation:
        times = self._stages.times(job)
        text = self._stages.text(job, job.parameters.prompt)
        return Generation(job, times, text, source.region() if source else None)

    def _join_or_begin(self, generation: Generation, source: Source) -> Inversion | None:
        """The inversion that this edit has to begin; None if it is done or another began it."""
        job = generation.job
        key = inversion_key(source.identity, job.parameters)
        with self._changed:
            if self._dead:
                raise LOOP_DIED
            latents = self._cache.get(key)
            inversion = self._inversions.get(key)
            if latents is None and inversion is None:
                self._metrics.inversion("miss")
                self._inversions[key] = Inversion(key, [generation])
                return self._inversions[key]
            job.shared.add("inversion")
            if inversion is not None:
                self._metrics.inversion("shared")
                job.enter("inverting")
                inversion.generations.append(generation)
        if latents is not None:
            self._metrics.inversion("hit")
            self._generate(generation, latents)
        return None

    @torch.inference_mode()
    def _finish(self, job: Job, latents: Tensor) -> None:
        """Decodes an edit's latents and hands over its result."""
        try:
            job.check()
            job.enter("decoding")
            with self._stages.beside_the_loop():
                waveform = self._stages.decode(job, latents)
            # Of all samples at once isfinite() would take more memory than they do.
            if not torch.isfinite(torch.stack(waveform.aminmax())).all():
                raise EditError(
                    Code.INTERNAL, "the edit's audio is not finite; the edit was stopped"
                )
            job.leave()
            job.check()
            job.listener.finished(waveform, job)
        except BaseException as error:
            self._end(job, error)
            return
        self._end(job)

    def _end(self, job: Job, error: BaseException | None = None) -> None:
        """The one end of every job: its listener hears of a failure and its slot is free."""
        with self._changed:
            if job not in self._jobs:
                return  # ended before, when the loop died
            self._jobs.remove(job)
        job.waits(None)
        try:
            if isinstance(error, EditError):
                job.listener.failed(error)
                # The job holds it; the frames that it went through hold the job, clip and all.
                error.__traceback__ = None
            elif error is not None:
                log.error("an edit failed", exc_info=error)
                job.listener.failed(EditError(Code.INTERNAL, f"the edit failed: {error!r:.500}"))
                self._probe()
            for stage, seconds in list(job.seconds.items()):
                self._metrics.stage(stage, seconds)
        finally:
            self._admission.release(job.frames)

    def _probe(self) -> None:
        """After a failure: some errors of a GPU stay, and no edit can be done in this process any
        more. The loop dies of it then."""
        if self._gpu is None:
            return
        try:
            torch.zeros(1, device=self.model.device).add_(1).cpu()
        except torch.OutOfMemoryError:
            return
        except Exception as error:
            with self._changed:
                self._broken = error
                self._changed.notify_all()

    def _fail(self, work: Work, error: BaseException) -> None:
        """Ends all edits that an inversion or a generation is done for."""
        self._forget(work)
        for job in work.jobs:
            self._end(job, error)

    def _forget(self, work: Work) -> None:
        """No further edit is to join an inversion."""
        if isinstance(work, Inversion):
            with self._changed:
                self._inversions.pop(work.key, None)

    def _generate(self, generation: Generation, latents: Tensor) -> None:
        """Begins an edit's second solve, from the inverted latents or from noise."""
        job = generation.job
        job.done = job.parameters.inversion_evaluations
        job.enter("generating")
        solve = edit.generation(latents, job.parameters, generation.text)
        windows = self._stages.windows(job, latents.shape[-1], generation.region)
        times, done = generation.times, job.done
        self._begin(generation, lambda: Solving(generation, solve, times, windows, done))

    def _begin(self, work: Work, begin: Callable[[], Solving]) -> None:
        """The loop will begin a solve: on a GPU all that it holds is made on the loop's stream."""
        with self._changed:
            if not self._dead:
                self._new.append((work, begin))
                self._changed.notify_all()
                return
        self._fail(work, LOOP_DIED)

    # The loop.

    @torch.inference_mode()
    def _run(self) -> None:
        try:
            with self._gpu.loop() if self._gpu else nullcontext():
                while self._tick():
                    pass
        except BaseException:
            try:
                log.critical("the step loop died", exc_info=True)
            finally:
                self._die()

    def _tick(self) -> bool:
        """One network call for some of the solves that wait for a velocity; False at the end."""
        with self._changed:
            if not self._ready and not self._new:
                self._calls.tokens = self._calls.max_tokens
            self._changed.wait_for(
                lambda: self._ready or self._new or self._closing or self._broken
            )
            if self._broken:
                raise self._broken
            if not self._ready and not self._new:
                return False
            self._begin_new()
            self._drop_stopped()
            if not self._ready:
                return True
            chosen = schedule.choose(self._ready, self._calls.tokens, self._calls.max_tokens // 8)
            self._asked = [solving for solving, _ in chosen]
            self._ready = [solving for solving in self._ready if solving not in self._asked]
        asked = [solving.rows(turns) for solving, turns in chosen]
        for (solving, _), answers in zip(chosen, self._calls.evaluate(asked), strict=True):
            self._advance(solving, answers)
        self._asked = []
        return True

    def _begin_new(self) -> None:
        new, self._new = self._new, []
        for work, begin in new:
            try:
                self._ready.append(begin())
            except Exception as error:
                self._fail(work, error)

    def _drop_stopped(self) -> None:
        """Ends the edits that are to end, and the solves that work for nobody any more."""
        wanted = []
        for solving in self._ready:
            stopped, others = solving.work.drop_stopped()
            for job in stopped:
                self._end(job, job.stopped)
            if others:
                wanted.append(solving)
            else:
                self._forget(solving.work)
        self._ready = wanted

    def _advance(self, solving: Solving, answers: list[Tensor] | Exception) -> None:
        """Hands a solve its answers: it then waits for further ones, is done or has failed."""
        try:
            if isinstance(answers, Exception):
                raise answers
            before = solving.done
            latents = solving.answer(answers)
            if solving.done > before:
                self._unreported.append((solving, solving.done))
            if latents is not None and self._gpu:
                self._gpu.settle()
            if latents is not None or not self._gpu:
                self._report()
        except Exception as error:
            self._fail(solving.work, error)
            return
        if latents is None:
            with self._changed:
                self._ready.append(solving)
        elif isinstance(solving.work, Generation):
            job = solving.work.job
            self._hand_over(job, self._writer.submit(self._finish, job, latents))
        else:
            with self._changed:
                self._cache.put(solving.work.key, latents)
                self._forget(solving.work)
            for generation in solving.work.generations:  # nobody joins any more
                try:
                    self._generate(generation, latents)
                except Exception as error:
                    self._end(generation.job, error)

    def _report(self) -> None:
        """Tells edits of the evaluations that are done."""
        unreported, self._unreported = self._unreported, []
        for solving, done in unreported:
            solving.report(done)

    def _die(self) -> None:
        with self._changed:
            self._dead = True
            works = [solving.work for solving in (*self._ready, *self._asked)]
            works += [work for work, _ in self._new]
            jobs = {job for work in (*works, *self._inversions.values()) for job in work.jobs}
            self._new, self._ready, self._inversions = [], [], {}
        try:
            for job in jobs:
                try:
                    self._end(job, LOOP_DIED)
                except Exception:
                    log.exception("an edit could not be told that the loop died")
        finally:
            self._on_death()
