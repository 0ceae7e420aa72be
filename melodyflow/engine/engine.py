"""The step loop: edits join and leave it between network calls.

The loop makes one network call after the other and nothing else; beside it some workers read and
encode, others decode and write.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from melodyflow import edit
from melodyflow.engine import schedule
from melodyflow.engine.admission import SHUTTING_DOWN, Admission
from melodyflow.engine.cache import Cache
from melodyflow.engine.gpu import Gpu
from melodyflow.engine.job import Code, EditError, Job, inversion_key, waveform_key
from melodyflow.engine.solving import Solving
from melodyflow.model import MelodyFlow
from melodyflow.model.transformer import Network, Row, Text
from melodyflow.windows import Windows

log = logging.getLogger(__name__)

WORKERS = 2  # that read, and that write: a long clip in one must not hold up the short ones
# A network call above these takes longer without doing more a second.
MAX_TOKENS = {"cpu": 1024, "cuda": 12288}
GROWTH_CALLS = 100  # network calls without want of memory after which they may be larger again

LOOP_DIED = EditError(Code.INTERNAL, "the server's step loop died; the server restarts")


class EngineMetrics(Protocol):
    """What the engine counts."""

    def in_flight(self, edits: int, frames: int) -> None:
        """Edits that hold a slot now, and their latent frames."""

    def evaluated(self, rows: int, tokens: int, seconds: float) -> None:
        """One network call."""

    def stage(self, name: str, seconds: float) -> None:
        """One stage of one edit is over."""

    def inversion(self, found: str) -> None:
        """An inversion was asked for: "hit", "miss" or "shared" with one in flight."""

    def cached(self, cache_bytes: int) -> None:
        """So much is held for edits to share."""


class Engine:
    """Runs edits together.

    `acquire` a slot, then `submit` a job: the slot is free again when the job's listener has been
    told of its end. `network` is the one place through which velocities come.
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
        self.network: Network = model.network
        self._max_tokens = max_tokens
        self._tokens = max_tokens  # of the next call; less for some time after an out-of-memory
        self._good_calls = 0  # since then
        self._metrics = metrics
        self._on_death = on_death
        self._admission = Admission(slots, max_frames, metrics.in_flight)
        self._cache = Cache(cache_bytes, metrics.cached)
        self._changed = threading.Condition()
        self._jobs: set[Job] = set()  # submitted and not ended
        self._ready: list[Solving] = []  # waiting for a velocity
        self._asked: list[Solving] = []  # in the running network call
        self._inversions: dict[object, Solving] = {}  # in flight, by key
        self._closing = False
        self._dead = False
        self._broken: Exception | None = None  # what the device says since it answers nothing else
        self._gpu = Gpu(model.device) if model.device.type == "cuda" else None
        self._unreported: list[tuple[Solving, int]] = []  # of the call that a GPU works at
        self._reader = ThreadPoolExecutor(WORKERS, thread_name_prefix="reader")
        self._writer = ThreadPoolExecutor(WORKERS, thread_name_prefix="writer")
        self._loop = threading.Thread(target=self._run, name="step-loop", daemon=True)
        self._loop.start()

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
                self._generate(job, self._start_from_noise(job))
                return
            waveform = job.read()
            job.check()
            job.enter("encoding")
            identity = waveform_key(waveform)
            self._read_prompt(job)
            if job.parameters.has_region:
                with self._beside_the_loop():
                    source, _ = self._read_source(job, waveform, identity)
                    job.region = edit.region(self.model, source, job.parameters)
            key = inversion_key(identity, job.parameters)
            inversion = self._join_or_begin(job, key)
        except BaseException as error:
            self._end(job, error)
            return
        if inversion is None:
            return
        try:
            with self._beside_the_loop():
                self._start_inversion(inversion, job, waveform, identity)
        except BaseException as error:
            self._fail(inversion, error)
            return
        self._wait_for_velocity(inversion)

    def _read_prompt(self, job: Job) -> None:
        with self._beside_the_loop():
            job.times = self.model.flow.embed_times(edit.flowsteps(job.parameters))
            job.text = self._read_text(job, job.parameters.prompt)
            if self._gpu:
                self._gpu.give(*job.times.values())

    def _start_from_noise(self, job: Job) -> Tensor:
        """Everything before the first evaluation of text-to-music."""
        self._read_prompt(job)
        rng = torch.Generator().manual_seed(job.parameters.seed)
        with self._beside_the_loop():
            noise = edit.starting_noise(self.model, job.frames, rng)
            if self._gpu:
                self._gpu.give(noise)
            return noise

    def _join_or_begin(self, job: Job, key: object) -> Solving | None:
        """The inversion that this job has to start; None if it is done or another started it."""
        with self._changed:
            if self._dead:
                raise LOOP_DIED
            latents = self._cache.get(key)
            inversion = self._inversions.get(key)
            if latents is None and inversion is None:
                self._metrics.inversion("miss")
                self._inversions[key] = Solving([job], key)
                return self._inversions[key]
            job.shared.add("inversion")
            if inversion is not None:
                self._metrics.inversion("shared")
                job.enter("inverting")
                inversion.jobs.append(job)
        if latents is not None:
            self._metrics.inversion("hit")
            self._generate(job, latents)
        return None

    def _read_source(
        self, job: Job, waveform: Tensor, identity: str
    ) -> tuple[Tensor, torch.Generator]:
        """The normalised source latents and the edit's generator after their draw."""
        ring = job.parameters.loop
        if job.posterior is None:
            job.posterior, found = self._cache.get_or_make(
                ("posterior", identity, ring),
                lambda: self.model.encode(waveform[None].to(self.model.device), ring=ring),
            )
            if found:
                job.shared.add("encoding")
        rng = torch.Generator().manual_seed(job.parameters.seed)
        source = edit.source_latents(self.model, job.posterior, rng)
        if self._gpu:
            self._gpu.give(source)
        return source, rng

    def _start_inversion(
        self, inversion: Solving, job: Job, waveform: Tensor, identity: str
    ) -> None:
        """Everything before the inversion's first evaluation."""
        source, rng = self._read_source(job, waveform, identity)
        text = self._read_text(job, job.parameters.source_prompt)
        ring = job.parameters.loop
        windows = Windows(source.shape[-1], self.model.max_frames, ring=ring)
        inversion.start(edit.inversion(source, job.parameters, text, rng), job.times, windows)
        job.enter("inverting")

    @torch.inference_mode()
    def _finish(self, job: Job, latents: Tensor) -> None:
        """Decodes an edit's latents and hands over its result."""
        try:
            job.check()
            job.enter("decoding")
            with self._beside_the_loop():
                waveform = self.model.decode(latents, ring=job.parameters.loop)[0].float().cpu()
            # Of all samples at once isfinite() would take more memory than they do.
            if not torch.isfinite(torch.stack(waveform.aminmax())).all():
                raise EditError(Code.INTERNAL, "the edit's audio is not finite; it was ended")
            job.leave()
            job.check()
            job.listener.finished(waveform, job)
        except BaseException as error:
            self._end(job, error)
            return
        self._end(job)

    def _read_text(self, job: Job, prompt: str) -> Text | None:
        if not prompt:
            return None
        embedding, found = self._cache.get_or_make(
            ("text", prompt), lambda: self.model.text(prompt)
        )
        if found:
            job.shared.add("text")
        text = self.model.flow.read_text(embedding)
        if self._gpu:
            self._gpu.give(text.keys, text.values)
        return text

    @contextmanager
    def _beside_the_loop(self) -> Iterator[None]:
        with self._gpu.beside() if self._gpu else nullcontext():
            yield

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

    def _fail(self, solving: Solving, error: BaseException) -> None:
        """Ends all that a solve works for."""
        with self._changed:
            self._inversions.pop(solving.key, None)
        for job in solving.jobs:
            self._end(job, error)

    def _generate(self, job: Job, latents: Tensor) -> None:
        """Starts an edit's second solve from the inverted latents, or from noise."""
        generation = Solving([job])
        job.done = job.parameters.inversion_evaluations
        job.enter("generating")
        solve = edit.generation(latents, job.parameters, job.text)
        ring = job.parameters.loop
        windows = Windows(latents.shape[-1], self.model.max_frames, job.region, ring=ring)
        generation.start(solve, job.times, windows, job.done)
        self._wait_for_velocity(generation)

    def _wait_for_velocity(self, solving: Solving) -> None:
        with self._changed:
            if not self._dead:
                self._ready.append(solving)
                self._changed.notify_all()
                return
        self._fail(solving, LOOP_DIED)

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
            if not self._ready:
                self._tokens = self._max_tokens
            self._changed.wait_for(lambda: self._ready or self._closing or self._broken)
            if self._broken:
                raise self._broken
            if not self._ready:
                return False
            self._drop_stopped()
            self._begin_new()
            if not self._ready:
                return True
            chosen = schedule.choose(self._ready, self._tokens, self._max_tokens // 8)
            self._asked = [solving for solving, _ in chosen]
            self._ready = [solving for solving in self._ready if solving not in self._asked]
        asked = [solving.rows(turns) for solving, turns in chosen]
        for (solving, _), answers in zip(chosen, self._evaluate(asked), strict=True):
            self._advance(solving, answers)
        self._asked = []
        return True

    def _drop_stopped(self) -> None:
        """Ends the edits that are to end, and the solves that work for nobody any more."""
        for solving in self._ready:
            for job in solving.take_stopped():
                self._end(job, job.stopped)
            if not solving.jobs:
                self._inversions.pop(solving.key, None)
        self._ready = [solving for solving in self._ready if solving.jobs]

    def _report(self) -> None:
        """Tells edits of the evaluations that are done."""
        unreported, self._unreported = self._unreported, []
        for solving, done in unreported:
            solving.report(done)

    def _begin_new(self) -> None:
        """Brings solves that came since to their first point. Not the workers do: what a solve
        holds is made on the loop's stream."""
        for solving in self._ready:
            if not solving.begun:
                try:
                    solving.begin()
                except Exception as error:
                    self._fail(solving, error)
        self._ready = [solving for solving in self._ready if solving.begun]

    def _evaluate(self, asked: list[list[Row]]) -> list[list[Tensor] | Exception]:
        """The network's answers to each solve's rows. Where a shared call fails its halves are
        asked for, so that only the one at fault ends."""
        try:
            answers = iter(self._call([row for rows in asked for row in rows]))
        except Exception as error:
            if len(asked) == 1:
                return [error]
            log.warning("a network call for %d edits failed: %r", len(asked), error)
            half = len(asked) // 2
            return self._evaluate(asked[:half]) + self._evaluate(asked[half:])
        return [[next(answers) for _ in rows] for rows in asked]

    def _call(self, rows: list[Row]) -> list[Tensor]:
        """One network call; where memory does not suffice in halves, and smaller for some time."""
        tokens = sum(row.latents.shape[-1] for row in rows)

        def done(seconds: float) -> None:
            self._metrics.evaluated(len(rows), tokens, seconds)
            self._report()

        try:
            if self._gpu:
                answers = self._gpu.queue(lambda: self.network(rows), done)
            else:
                started = time.monotonic()
                answers = self.network(rows)
                done(time.monotonic() - started)
        except (torch.OutOfMemoryError, MemoryError) as error:
            if len(rows) == 1:
                raise
            log.warning("out of memory at %d tokens: %s", tokens, error)
        else:
            self._good_calls += 1
            if self._good_calls >= GROWTH_CALLS and self._tokens < self._max_tokens:
                self._tokens, self._good_calls = min(2 * self._tokens, self._max_tokens), 0
            return answers
        # Outside of the handler: the error's traceback holds what the failed call had allocated.
        if self._gpu:
            torch.cuda.empty_cache()
        half = len(rows) // 2
        answers = self._call(rows[:half]) + self._call(rows[half:])
        # Only now: had one row failed by itself, then not for the call's size.
        self._tokens, self._good_calls = min(self._tokens, max(1, tokens // 2)), 0
        return answers

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
            self._fail(solving, error)
            return
        if latents is None:
            self._wait_for_velocity(solving)
        elif solving.key is None:
            job = solving.jobs[0]
            self._hand_over(job, self._writer.submit(self._finish, job, latents))
        else:
            with self._changed:
                self._cache.put(solving.key, latents)
                del self._inversions[solving.key]
            for job in solving.jobs:  # nobody joins any more
                try:
                    self._generate(job, latents)
                except Exception as error:
                    self._end(job, error)

    def _die(self) -> None:
        with self._changed:
            self._dead = True
            solvings = {*self._ready, *self._asked, *self._inversions.values()}
            self._ready, self._inversions = [], {}
        try:
            for job in [job for solving in solvings for job in solving.jobs]:
                try:
                    self._end(job, LOOP_DIED)
                except Exception:
                    log.exception("an edit could not be told that the loop died")
        finally:
            self._on_death()
