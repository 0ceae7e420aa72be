"""One job in the engine: an edit, or a piece of text-to-music."""

import hashlib
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

from torch import Tensor

from melodyflow.contract import preview_steps
from melodyflow.edit import Parameters
from melodyflow.errors import EditError

# Called between parts of long work: lets others go first, and raises the reason to end the edit.
Check: TypeAlias = Callable[[], None]


class Listener(Protocol):
    """Receives a job's progress and outcome, on the engine's threads. What is given a `check` may
    be slow and calls it now and then; the rest must be quick."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` network evaluations are finished."""

    def preview(self, waveform: Tensor, done: int, check: Check) -> None:
        """What the result would be, judged after `done` network evaluations; as in `finished`. May
        come after the job's end."""

    def finished(self, waveform: Tensor, job: "Job", check: Check) -> None:
        """The decoded waveform [channels, frames*hop], untrimmed, on the CPU. The listener may
        modify it in place."""

    def failed(self, error: EditError) -> None:
        """The job ended without a result."""


class Job:
    """An edit on its way through the engine: encoding (worker), solving (step loop), decoding
    (worker)."""

    def __init__(
        self,
        parameters: Parameters,
        frames: int,
        read: Callable[[Check], Tensor] | None,
        listener: Listener,
        owner: str = "",
        previews: int = 0,
    ) -> None:
        """`read` returns the source [channels, samples] at the model's rate, or raises EditError;
        None means text-to-music. `frames`: the latent frames, or an upper bound. `owner`: who the
        job belongs to; owners share the engine evenly. `previews`: how many to make at most."""
        self.parameters = parameters
        self.frames = frames
        self.listener = listener
        self.owner = owner
        self.read = read
        # After how many evaluations.
        self.previews = frozenset(
            parameters.inversion_evaluations + step
            for step in preview_steps(previews, parameters.steps)
        )
        self.done = 0
        self.shared: set[str] = set()  # what another edit had already computed
        self._stages: dict[str, tuple[float, float]] = {}  # by finished stage: begin and end
        self.started: float | None = None  # by time.monotonic(); None while it waits for room
        self._stop: EditError | None = None
        self._on_stop: Callable[[], None] | None = None
        self._entered = time.monotonic()
        self._stage = ""

    @property
    def stopped(self) -> EditError | None:
        """The reason to end this edit now, if any."""
        return self._stop

    @property
    def seconds(self) -> dict[str, float]:
        """How long each finished stage took."""
        return {stage: end - begin for stage, (begin, end) in self._stages.items()}

    def timeline(self) -> dict[str, tuple[float, float]]:
        """When each stage began and ended, by time.monotonic(); the current one ends now."""
        stages = dict(self._stages)
        if self._stage:
            stages[self._stage] = (self._entered, time.monotonic())
        return stages

    def stop(self, reason: EditError) -> None:
        """Ends the edit before its next evaluation. The first reason counts. Thread-safe."""
        self._stop = self._stop or reason
        on_stop = self._on_stop
        if on_stop:
            on_stop()

    def waits(self, on_stop: Callable[[], None] | None) -> None:
        """Sets what to call when the edit is stopped; called at once if it already is. May be
        called twice."""
        self._on_stop = on_stop
        if on_stop and self._stop:
            on_stop()

    def start(self) -> None:
        """Notes that the engine works on the edit from now on."""
        self.started = time.monotonic()

    def check(self) -> None:
        """Raises the reason to end this edit, if any."""
        if self._stop:
            raise self._stop

    def enter(self, stage: str) -> None:
        """Ends the current stage, starts the next one and tells the listener."""
        self.leave()
        self._stage = stage
        self.listener.progress(stage, self.done, self.parameters.evaluations)

    def leave(self) -> None:
        """Ends the current stage and notes its time."""
        now = time.monotonic()
        if self._stage:
            self._stages[self._stage] = (self._entered, now)
        self._stage, self._entered = "", now

    def evaluated(self, done: int) -> None:
        """Reports that `done` evaluations are finished."""
        self.done = done
        self.listener.progress(self._stage, done, self.parameters.evaluations)


def waveform_key(waveform: Tensor) -> str:
    """A hash of a decoded waveform [channels, samples]."""
    digest = hashlib.sha256(str(tuple(waveform.shape)).encode())
    digest.update(waveform.contiguous().numpy().data)
    return digest.hexdigest()


def inversion_key(waveform: str, parameters: Parameters) -> tuple[object, ...]:
    """Everything an inversion depends on. Edits that differ only in prompt and guidance share
    their inversion: these affect only the generation, which draws no noise."""
    return (
        "inversion",
        waveform,
        parameters.loop,
        parameters.seed,
        parameters.source_prompt,
        parameters.flowstep,
        parameters.steps,
        parameters.solver,
        parameters.regularize_iters,
        parameters.keep_last_k_iters,
        parameters.lambda_kl,
    )
