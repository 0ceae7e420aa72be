"""One edit in flight, or one piece of text-to-music: what the engine knows of it."""

import hashlib
import time
from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from melodyflow.edit import Parameters
from melodyflow.errors import EditError


class Listener(Protocol):
    """Whom an edit tells of itself, from the engine's threads. `finished` may take its time;
    `progress` may not."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` network evaluations are behind it."""

    def finished(self, waveform: Tensor, job: "Job") -> None:
        """The decoded waveform [channels, frames*hop], untrimmed, on the CPU; it is the
        listener's now, to change in place."""

    def failed(self, error: EditError) -> None:
        """It ends without a result."""


class Job:
    """An edit on its way through the engine: encoding (a worker), solving (the loop), decoding
    (a worker)."""

    def __init__(
        self,
        parameters: Parameters,
        frames: int,
        read: Callable[[], Tensor] | None,
        listener: Listener,
        owner: str = "",
    ) -> None:
        """`read` gives the source [channels, samples] at the model's rate, or raises EditError;
        None: text-to-music. `frames`: the latent frames, of a source as many as there can be.
        `owner`: whose it is; owners share the engine evenly."""
        self.parameters = parameters
        self.frames = frames
        self.listener = listener
        self.owner = owner
        self.read = read
        self.done = 0
        self.shared: set[str] = set()  # what it did not have to compute
        self.seconds: dict[str, float] = {}  # by stage, of those that are over
        self._stop: EditError | None = None
        self._on_stop: Callable[[], None] | None = None
        self._entered = time.monotonic()
        self._stage = ""

    @property
    def stopped(self) -> EditError | None:
        """Why this edit is to end at once, if it is."""
        return self._stop

    def stop(self, reason: EditError) -> None:
        """Ends the edit before its next evaluation. The first reason stays. Any thread."""
        self._stop = self._stop or reason
        on_stop = self._on_stop
        if on_stop:
            on_stop()

    def waits(self, on_stop: Callable[[], None] | None) -> None:
        """From now on `on_stop` is called when the edit is to end; at once where that is so
        already. It may be called twice."""
        self._on_stop = on_stop
        if on_stop and self._stop:
            on_stop()

    def check(self) -> None:
        """Raises the reason for which this edit is to end, if there is one."""
        if self._stop:
            raise self._stop

    def enter(self, stage: str) -> None:
        """Notes the time of the stage that ends and tells the listener of the one that begins."""
        self.leave()
        self._stage = stage
        self.listener.progress(stage, self.done, self.parameters.evaluations)

    def leave(self) -> None:
        """Notes the time of the stage that ends."""
        now = time.monotonic()
        if self._stage:
            self.seconds[self._stage] = now - self._entered
        self._stage, self._entered = "", now

    def evaluated(self, done: int) -> None:
        """`done` of its evaluations are behind it."""
        self.done = done
        self.listener.progress(self._stage, done, self.parameters.evaluations)


def waveform_key(waveform: Tensor) -> str:
    """Identity of a decoded waveform [channels, samples]."""
    digest = hashlib.sha256(str(tuple(waveform.shape)).encode())
    digest.update(waveform.contiguous().numpy().data)
    return digest.hexdigest()


def inversion_key(waveform: str, parameters: Parameters) -> tuple[object, ...]:
    """Everything an inversion depends on. The prompt and the guidance are not among it, and the
    second solve draws no noise: edits that differ in those alone share their inversion."""
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
