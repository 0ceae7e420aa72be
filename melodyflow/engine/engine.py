"""An edit's way through the engine: workers read and encode it, the step loop solves it, other
workers decode and write it."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from melodyflow import edit
from melodyflow.engine.admission import SHUTTING_DOWN, Admission
from melodyflow.engine.cache import Cache
from melodyflow.engine.calls import CallMetrics
from melodyflow.engine.gpu import Gpu
from melodyflow.engine.job import Job, inversion_key
from melodyflow.engine.loop import StepLoop
from melodyflow.engine.precedence import Precedence
from melodyflow.engine.previewer import Previewer
from melodyflow.engine.solving import Generation, Inversion, Solving, Work
from melodyflow.engine.stages import Source, Stages
from melodyflow.engine.workers import Workers
from melodyflow.errors import Code, EditError
from melodyflow.model import MelodyFlow
from melodyflow.model.transformer import Network

log = logging.getLogger(__name__)

LOOP_DIED = EditError(Code.INTERNAL, "the server's step loop died; the server restarts")


class EngineMetrics(CallMetrics, Protocol):
    """The engine's metrics."""

    def in_flight(self, edits: int, frames: int) -> None:
        """The edits that hold a slot now, and the latent frames of those that have room."""

    def stage(self, name: str, seconds: float) -> None:
        """An edit finished a stage."""

    def inversion(self, found: str) -> None:
        """An edit needed an inversion: "hit", "miss" or "shared" with one in flight."""

    def cached(self, cache_bytes: int) -> None:
        """The size of the cache, in bytes."""


class Engine:
    """Runs many edits together.

    `acquire` a slot, then `submit` a job. The slot is released once the job's listener has been
    told the outcome.
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
        """`max_frames`: latent frames in flight; `max_tokens`: per network call; `on_death` is
        called if the step loop dies of an error of its own."""
        self.model = model
        self._metrics = metrics
        self._on_death = on_death
        self._admission = Admission(slots, max_frames, metrics.in_flight)
        self._precedence = Precedence()
        self._cache = Cache(cache_bytes, metrics.cached, self._precedence.waiting)
        self._gpu = Gpu(model.device) if model.device.type == "cuda" else None
        self._stages = Stages(model, self._cache, self._gpu)
        self._lock = threading.RLock()
        self._jobs: set[Job] = set()  # submitted and not ended
        self._inversions: dict[object, Inversion] = {}  # in flight, by key
        self._reader = Workers("reader", self._precedence)
        self._writer = Workers("writer", self._precedence)
        self._previewer = Previewer(self._preview)
        layers = (*model.codec.encoder.model, *model.codec.decoder.model) if not self._gpu else ()
        self._hooks = [layer.register_forward_pre_hook(self._give_way) for layer in layers]
        self._loop = StepLoop(model.network, self._gpu, max_tokens, metrics, self)
        self._loop.start()

    @property
    def network(self) -> Network:
        """The network that all solves ask."""
        return self._loop.network

    @network.setter
    def network(self, network: Network) -> None:
        self._loop.network = network

    @property
    def alive(self) -> bool:
        """Whether the step loop is running."""
        return not self._loop.dead

    def acquire(self, give_up: Callable[[], EditError | None]) -> None:
        """Waits for a slot and takes it. See `Admission.acquire`."""
        self._admission.acquire(give_up)

    def wait_for_a_slot(self) -> None:
        """Waits until a slot is free, without taking it."""
        self._admission.wait_for_a_slot()

    def submit(self, job: Job) -> None:
        """Starts a job as soon as there is room for its frames. Its slot must have been
        acquired."""
        with self._lock:
            self._jobs.add(job)
        self._admission.enter(job, partial(self._start, job))
        with self._lock:
            if job.started is None:
                job.waits(lambda: self._end(job, job.stopped))

    def close(self, timeout: float) -> None:
        """Stops taking edits, gives those in flight `timeout` seconds, ends the rest with
        UNAVAILABLE and joins all threads."""
        self._admission.close(timeout)
        with self._lock:
            jobs = list(self._jobs)
        for job in jobs:
            job.stop(SHUTTING_DOWN)
        self._reader.shutdown()
        self._loop.close()
        self._previewer.close()
        self._writer.shutdown()
        for hook in self._hooks:
            hook.remove()

    def _start(self, job: Job) -> None:
        """Gives a job that has room to a worker, unless it has ended while it waited."""
        with self._lock:
            if job not in self._jobs:
                return
            job.waits(None)
            job.start()
            self._precedence.come(job.owner)
        try:
            self._hand_over(job, self._reader.submit(job.owner, partial(self._prepare, job)))
        except Exception as error:
            self._end(job, error)

    # What the workers do.

    def _give_way(self, *_: object) -> None:
        """Called before each layer of the codec on a CPU, which all threads share."""
        self._precedence.give_way()

    def _check(self, job: Job) -> None:
        """Called between parts of a job's work; raises the reason to end it, if any."""
        self._precedence.give_way()
        job.check()

    def _hand_over(self, job: Job, work: "Future[None]") -> None:
        """Cancels the job's work if the job is stopped before a worker starts it."""

        def end() -> None:
            if work.cancel():
                self._end(job, job.stopped)

        job.waits(end)
        with self._lock:
            if job not in self._jobs:  # the worker has already finished
                job.waits(None)

    @torch.inference_mode()
    def _prepare(self, job: Job) -> None:
        """Reads and encodes the source, if there is one, and starts or joins its inversion."""
        try:
            job.check()
            if job.read is None:
                with self._stages.beside_the_loop():
                    generation, noise = self._generation(job), self._stages.noise(job)
                self._generate(generation, noise)
                return
            waveform = job.read(partial(self._check, job))
            self._check(job)
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
            self.failed(inversion, error)
            return
        times = generation.times
        self._begin(inversion, lambda: Solving(inversion, solve, times, windows))

    def _generation(self, job: Job, source: Source | None = None) -> Generation:
        times = self._stages.times(job)
        text = self._stages.text(job, job.parameters.prompt)
        return Generation(job, times, text, source.region() if source else None)

    def _join_or_begin(self, generation: Generation, source: Source) -> Inversion | None:
        """Returns the inversion this edit must begin; None if it is cached or already running."""
        job = generation.job
        key = inversion_key(source.identity, job.parameters)
        with self._lock:
            if self._loop.dead:
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
    def _preview(self, job: Job, latents: Tensor, done: int) -> None:
        """Decodes an estimate of an edit's latents and passes it to its listener."""
        try:
            job.check()
            with self._precedence.work_of(job.owner):
                with self._stages.beside_the_loop():
                    waveform = self._stages.decode(job, latents)
                job.listener.preview(waveform, done, partial(self._check, job))
        except EditError as error:
            if error is not job.stopped:
                raise

    @torch.inference_mode()
    def _finish(self, job: Job, latents: Tensor) -> None:
        """Decodes an edit's latents and passes the result to its listener."""
        try:
            job.check()
            job.enter("decoding")
            with self._stages.beside_the_loop():
                waveform = self._stages.decode(job, latents)
            # isfinite() of all samples would take more memory than the samples themselves.
            if not torch.isfinite(torch.stack(waveform.aminmax())).all():
                raise EditError(
                    Code.INTERNAL, "the edit's audio is not finite; the edit was stopped"
                )
            job.leave()
            self._check(job)
            job.listener.finished(waveform, job, partial(self._check, job))
        except BaseException as error:
            self._end(job, error)
            return
        self._end(job)

    def _end(self, job: Job, error: BaseException | None = None) -> None:
        """Ends a job: reports a failure to its listener and releases its slot. Every job ends
        here, exactly once."""
        with self._lock:
            if job not in self._jobs:
                return  # already ended, when the loop died
            self._jobs.remove(job)
            if job.started is not None:
                self._precedence.leave(job.owner)
        job.waits(None)
        self._previewer.forget(job)
        try:
            if isinstance(error, EditError):
                job.listener.failed(error)
                # The job holds the error, whose frames hold the job, clip and all: break the cycle.
                error.__traceback__ = None
            elif error is not None:
                log.error("an edit failed", exc_info=error)
                job.listener.failed(EditError(Code.INTERNAL, f"the edit failed: {error!r:.500}"))
                self._probe()
            for stage, seconds in list(job.seconds.items()):
                self._metrics.stage(stage, seconds)
        finally:
            self._admission.release(job)

    def _probe(self) -> None:
        """Kills the loop if the GPU no longer works: after some errors, no edit can run in this
        process again. Called after every failure."""
        if self._gpu is None:
            return
        try:
            torch.zeros(1, device=self.model.device).add_(1).cpu()
        except torch.OutOfMemoryError:
            return
        except Exception as error:
            self._loop.kill(error)

    def _forget(self, work: Work) -> None:
        """From now on no edit joins this work, if it is an inversion."""
        if isinstance(work, Inversion):
            with self._lock:
                self._inversions.pop(work.key, None)

    def _generate(self, generation: Generation, latents: Tensor) -> None:
        """Begins an edit's generation, from the inverted latents or from noise."""
        job = generation.job
        job.done = job.parameters.inversion_evaluations
        job.enter("generating")
        solve = edit.generation(latents, job.parameters, generation.text)
        windows = self._stages.windows(job, latents.shape[-1], generation.region)
        times, done = generation.times, job.done
        self._begin(generation, lambda: Solving(generation, solve, times, windows, done))

    def _begin(self, work: Work, make: Callable[[], Solving]) -> None:
        if not self._loop.begin(work, make):
            self.failed(work, LOOP_DIED)

    # What the step loop calls.

    def wanted(self, work: Work) -> bool:
        """Ends the edits that are to stop; False if none are left."""
        with self._lock:
            stopped, others = work.drop_stopped()
            if not others:
                self._forget(work)
        for job in stopped:
            self._end(job, job.stopped)
        return others

    def formed(self, work: Work, latents: Tensor, done: int) -> None:
        """Offers an estimate of a generation's latents as a preview."""
        for job in work.jobs:
            self._previewer.offer(job, latents, done)

    def solved(self, work: Work, latents: Tensor) -> None:
        """Hands a generation's latents to a writer; begins the generations that wait for an
        inversion's."""
        if isinstance(work, Generation):
            self._previewer.forget(work.job)
            finish = partial(self._finish, work.job, latents)
            self._hand_over(work.job, self._writer.submit(work.job.owner, finish))
            return
        with self._lock:
            self._cache.put(work.key, latents)
            self._forget(work)
        for generation in work.generations:  # no further edit can join
            try:
                self._generate(generation, latents)
            except Exception as error:
                self._end(generation.job, error)

    def failed(self, work: Work, error: BaseException) -> None:
        """Ends all edits that wait for this solve."""
        self._forget(work)
        for job in work.jobs:
            self._end(job, error)

    def died(self, works: list[Work]) -> None:
        """Ends all edits in flight, then calls `on_death`."""
        with self._lock:
            jobs = {job for work in (*works, *self._inversions.values()) for job in work.jobs}
            self._inversions = {}
        try:
            for job in jobs:
                try:
                    self._end(job, LOOP_DIED)
                except Exception:
                    log.exception("could not tell an edit that the step loop died")
        finally:
            self._on_death()
