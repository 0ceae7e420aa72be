"""A solve in the loop: an inversion, which any number of edits may wait for, or one edit's
generation."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from melodyflow import edit
from melodyflow.engine.job import Code, EditError, Job
from melodyflow.flow import Point, Solve
from melodyflow.model.transformer import Row
from melodyflow.windows import Windows


class Solving:
    """A solve, the point at which it waits for a velocity, and the edits it works for. The
    network answers a point window by window, in one call or in several."""

    point: Point

    def __init__(self, jobs: list[Job], key: Hashable = None) -> None:
        """`key`: under which an inversion's latents are shared; None for a generation."""
        self.jobs = jobs
        self.key = key
        self.lead = 0  # the scheduler's
        self.done = 0  # evaluations behind its edits
        self.begun = False

    def start(
        self, solve: Solve, times: dict[float, Tensor], windows: Windows, done: int = 0
    ) -> None:
        """Gives it what to solve. `done`: evaluations behind its edits."""
        self._solve = solve
        self._times = times
        self._windows = windows
        self.done = done

    def begin(self) -> None:
        """Runs the solve to its first point."""
        self._reach(next(self._solve))
        self.begun = True

    def _reach(self, point: Point) -> None:
        self.point = point
        self._asked = edit.rows(point, self._times, self._windows)
        self._answers: list[list[Tensor]] = []

    @property
    def turns(self) -> list[int]:
        """Tokens of each window that has no answer yet."""
        return [
            sum(row.latents.shape[-1] for row in rows) for rows in self._asked[len(self._answers) :]
        ]

    def rows(self, turns: int) -> list[Row]:
        """What the network is to be asked for the next `turns` windows."""
        answered = len(self._answers)
        return [row for rows in self._asked[answered : answered + turns] for row in rows]

    def answer(self, answers: Sequence[Tensor]) -> Tensor | None:
        """Takes the network's answers to `rows`; the latents [1, latent, frames] after the last.

        Raises EditError where they are not finite: on a GPU after the last, since to look sooner
        would mean to wait for it. What is not finite stays so.
        """
        size = len(self._asked[0])
        self._answers += [list(answers[i : i + size]) for i in range(0, len(answers), size)]
        if len(self._answers) < len(self._asked):
            return None
        velocity = edit.velocity(self.point, self._answers, self._windows)
        if velocity.device.type == "cpu":
            _check_finite(velocity)
        self.done += 1
        try:
            self._reach(self._solve.send(velocity))
        except StopIteration as end:
            latents: Tensor = end.value
            _check_finite(latents)
            return latents
        return None

    def report(self, done: int) -> None:
        """Tells its edits how many evaluations are behind them."""
        for job in list(self.jobs):
            job.evaluated(done)

    def take_stopped(self) -> list[Job]:
        """Takes out the edits that are to end."""
        stopped = [job for job in self.jobs if job.stopped]
        for job in stopped:
            self.jobs.remove(job)
        return stopped


def _check_finite(tensor: Tensor) -> None:
    if not torch.isfinite(tensor).all():
        raise EditError(Code.INTERNAL, "the edit's velocity is not finite; it was ended")
