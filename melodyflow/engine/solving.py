"""A solve in the loop: an inversion, which any number of edits may wait for, or one edit's
generation."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from melodyflow import edit
from melodyflow.engine.job import Code, EditError, Job
from melodyflow.flow import Point, Solve
from melodyflow.model.transformer import Row


class Solving:
    """A solve, the point at which it waits for a velocity, and the edits it works for."""

    point: Point

    def __init__(self, jobs: list[Job], key: Hashable = None) -> None:
        """`key`: under which an inversion's latents are shared; None for a generation."""
        self.jobs = jobs
        self.key = key
        self.lead = 0  # the scheduler's
        self._done = 0

    def start(self, solve: Solve, times: dict[float, Tensor], done: int = 0) -> None:
        """Runs the solve to its first point. `done`: evaluations behind its edits."""
        self._solve = solve
        self._times = times
        self._done = done
        self.point = next(solve)

    def rows(self) -> list[Row]:
        """What the network is to be asked."""
        return edit.rows(self.point, self._times)

    @property
    def tokens(self) -> int:
        rows, _, frames = self.point.latents.shape
        guided = self.point.text is not None and bool(self.point.guidance)
        return rows * frames * (2 if guided else 1)

    def answer(self, answers: Sequence[Tensor]) -> Tensor | None:
        """Takes the network's answers to `rows`; the latents [1, latent, frames] after the last.

        Raises EditError where they are not finite.
        """
        velocity = edit.velocity(self.point, answers)
        if not torch.isfinite(velocity).all():
            raise EditError(Code.INTERNAL, "the edit's velocity is not finite; it was ended")
        self._done += 1
        try:
            self.point = self._solve.send(velocity)
            latents = None
        except StopIteration as end:
            latents = end.value
        for job in list(self.jobs):
            job.evaluated(self._done)
        return latents

    def take_stopped(self) -> list[Job]:
        """Takes out the edits that are to end."""
        stopped = [job for job in self.jobs if job.stopped]
        for job in stopped:
            self.jobs.remove(job)
        return stopped
