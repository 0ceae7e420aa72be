"""One edit in flight: what the engine knows of it."""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor

from melodyflow import flow
from melodyflow.edit import Parameters, flowsteps, generation, inversion
from melodyflow.flow import Point, Solve
from melodyflow.model import MelodyFlow
from melodyflow.model.codec import posterior_sample


class Code(StrEnum):
    """Why an edit ended without a result."""

    INVALID_ARG = "invalid"  # the request cannot be done
    CANCELLED = "cancelled"  # the client went away
    DEADLINE = "deadline"  # its time was up
    UNAVAILABLE = "unavailable"  # not now
    INTERNAL = "failed"  # our fault


class EditError(Exception):
    """An edit that ends without a result; the message is the client's."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Listener(Protocol):
    """Whom an edit tells of itself, from the engine's threads. `finished` may take its time;
    `progress` may not."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` network evaluations are behind it."""

    def finished(self, waveform: Tensor, seconds: dict[str, float]) -> None:
        """The decoded waveform [channels, frames*hop], untrimmed, on the CPU, and the stages'
        times."""

    def failed(self, error: EditError) -> None:
        """It ends without a result."""


class Job:
    """An edit on its way through the engine: encoding (a worker), solving (the loop), decoding (a
    worker)."""

    def __init__(
        self, parameters: Parameters, read: Callable[[], Tensor], listener: Listener
    ) -> None:
        """`read` gives the source [channels, samples] at the model's rate, or raises EditError."""
        self.parameters = parameters
        self.listener = listener
        self.read = read
        self.done = 0
        self.seconds: dict[str, float] = {}  # by stage, of those that are over
        self._stop: EditError | None = None
        self._entered = time.monotonic()
        self._stage = ""

    @property
    def stopped(self) -> EditError | None:
        """Why this edit is to end at once, if it is."""
        return self._stop

    def stop(self, reason: EditError) -> None:
        """Ends the edit before its next evaluation. The first reason stays. Any thread."""
        self._stop = self._stop or reason

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

    def prepare(self, model: MelodyFlow) -> None:
        """Everything before the first evaluation: source latents, texts, times."""
        waveform = self.read()
        self.enter("encoding")
        mean_and_scale = model.codec.encode(waveform[None].to(model.device))
        if not torch.isfinite(mean_and_scale).all():
            largest = float(waveform.abs().max())
            raise EditError(
                Code.INVALID_ARG,
                f"audio: samples up to {largest:g} are beyond what the model can encode; "
                "full scale is 1",
            )
        self._times = model.flow.embed_times(flowsteps(self.parameters))
        self._solve = self._both_solves(model, mean_and_scale)
        self.point: Point = next(self._solve)

    @property
    def times(self) -> dict[float, Tensor]:
        return self._times

    def answer(self, velocity: Tensor) -> Tensor | None:
        """Takes the velocity at `point`; the edited latents [1, latent, frames] once the last one
        is in."""
        self.done += 1
        try:
            self.point = self._solve.send(velocity)
        except StopIteration as end:
            latents: Tensor = end.value
            return latents
        self.listener.progress(self._stage, self.done, self.parameters.evaluations)
        return None

    def _both_solves(self, model: MelodyFlow, mean_and_scale: Tensor) -> Solve:
        rng = torch.Generator().manual_seed(self.parameters.seed)
        mean, _ = mean_and_scale.chunk(2, dim=1)
        source = model.flow.normalise(posterior_sample(mean_and_scale, flow.noise_like(mean, rng)))
        source_text = model.read_text(self.parameters.source_prompt)
        text = model.read_text(self.parameters.prompt)
        self.enter("inverting")
        inverted = yield from inversion(source, self.parameters, source_text, rng)
        self.enter("generating")
        return (yield from generation(inverted, self.parameters, text))
