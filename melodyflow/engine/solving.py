"""Solves in the step loop: inversions, which several edits may share, and the edits' own
generations."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melodyflow import edit
from melodyflow.engine.job import Job
from melodyflow.errors import Code, EditError
from melodyflow.flow import Solve
from melodyflow.model.transformer import Row, Text
from melodyflow.windows import Region, Windows


@dataclass(frozen=True, eq=False)
class Generation:
    """An edit's second solve, which starts from the inverted latents or from noise."""

    job: Job
    times: dict[float, Tensor]
    text: Text | None
    region: Region | None = None

    @property
    def jobs(self) -> list[Job]:
        """The edits that it is done for."""
        return [self.job]

    def drop_stopped(self) -> tuple[list[Job], bool]:
        """The stopped edits, and whether any others remain."""
        return ([self.job], False) if self.job.stopped else ([], True)


@dataclass(frozen=True, eq=False)
class Inversion:
    """An inversion in flight, and the generations waiting for its latents."""

    key: Hashable
    generations: list[Generation]

    @property
    def jobs(self) -> list[Job]:
        """The edits that it is done for."""
        return [generation.job for generation in self.generations]

    def drop_stopped(self) -> tuple[list[Job], bool]:
        """Removes the stopped edits. Returns them, and whether any others remain."""
        stopped = [generation for generation in self.generations if generation.job.stopped]
        for generation in stopped:
            self.generations.remove(generation)
        return [generation.job for generation in stopped], bool(self.generations)


Work = Inversion | Generation


class Solving:
    """A solve, paused at a point where it needs a velocity. The network answers a point window by
    window, in one or several calls."""

    def __init__(
        self,
        work: Work,
        solve: Solve,
        times: dict[float, Tensor],
        windows: Windows,
        done: int = 0,
    ) -> None:
        """Runs the solve to its first point. `done`: evaluations its edits have finished before."""
        self.work = work
        self.lead = 0  # used by the scheduler
        self.estimate: Tensor | None = None  # of the result, where the last answer gave one
        self.done = done
        self._solve = solve
        self._times = times
        self._windows = windows
        self._answers: list[list[Tensor]] = []
        self.point = next(solve)
        self._asked = edit.rows(self.point, times, windows)

    @property
    def owner(self) -> str:
        """Whose turns it takes; of an inversion that several owners wait for the first one's."""
        return self.work.jobs[0].owner

    @property
    def turns(self) -> list[int]:
        """The tokens of each window that has no answer yet."""
        return [
            sum(row.latents.shape[-1] for row in rows) for rows in self._asked[len(self._answers) :]
        ]

    def rows(self, turns: int) -> list[Row]:
        """The network rows for the next `turns` windows."""
        answered = len(self._answers)
        return [row for rows in self._asked[answered : answered + turns] for row in rows]

    def answer(self, answers: Sequence[Tensor]) -> Tensor | None:
        """Takes the network's answers to `rows`. Returns the latents [1, latent, frames] after the
        last one.

        Raises EditError if they aren't finite. On a GPU that is checked only at the end, because
        checking earlier would mean waiting for the GPU; NaN and infinity persist until then.
        """
        size = len(self._asked[0])
        self._answers += [list(answers[i : i + size]) for i in range(0, len(answers), size)]
        if len(self._answers) < len(self._asked):
            return None
        velocity = edit.velocity(self.point, self._answers, self._windows)
        if velocity.device.type == "cpu":
            _check_finite(velocity)
        self.done += 1
        self.estimate = None
        if isinstance(self.work, Generation) and self.done in self.work.job.previews:
            self.estimate = self.point.latents + (1 - self.point.flowstep) * velocity
        try:
            self.point = self._solve.send(velocity)
        except StopIteration as end:
            latents: Tensor = end.value
            _check_finite(latents)
            return latents
        self._asked = edit.rows(self.point, self._times, self._windows)
        self._answers = []
        return None

    def report(self, done: int) -> None:
        """Reports the finished evaluations to its edits."""
        for job in self.work.jobs:
            job.evaluated(done)


def _check_finite(tensor: Tensor) -> None:
    if not torch.isfinite(tensor).all():
        raise EditError(Code.INTERNAL, "the edit's velocity is not finite; the edit was stopped")
