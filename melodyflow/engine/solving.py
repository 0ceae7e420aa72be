"""Solves in the loop: inversions, which any number of edits may wait for, and the edits' own
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
    """An edit's second solve, which waits for the latents that it starts from."""

    job: Job
    times: dict[float, Tensor]
    text: Text | None
    region: Region | None = None

    @property
    def jobs(self) -> list[Job]:
        """The edits that it is done for."""
        return [self.job]

    def drop_stopped(self) -> tuple[list[Job], bool]:
        """The edits that are to end, and whether it is done for any other."""
        return ([self.job], False) if self.job.stopped else ([], True)


@dataclass(frozen=True, eq=False)
class Inversion:
    """An inversion in flight, and the generations that wait for its latents."""

    key: Hashable
    generations: list[Generation]

    @property
    def jobs(self) -> list[Job]:
        """The edits that it is done for."""
        return [generation.job for generation in self.generations]

    def drop_stopped(self) -> tuple[list[Job], bool]:
        """Takes out the edits that are to end: these, and whether it is done for any other."""
        stopped = [generation for generation in self.generations if generation.job.stopped]
        for generation in stopped:
            self.generations.remove(generation)
        return [generation.job for generation in stopped], bool(self.generations)


Work = Inversion | Generation


class Solving:
    """A solve and the point at which it waits for a velocity. The network answers a point window by
    window, in one call or in several."""

    def __init__(
        self,
        work: Work,
        solve: Solve,
        times: dict[float, Tensor],
        windows: Windows,
        done: int = 0,
    ) -> None:
        """Runs the solve to its first point. `done`: evaluations behind its edits."""
        self.work = work
        self.lead = 0  # the scheduler's
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
            self.point = self._solve.send(velocity)
        except StopIteration as end:
            latents: Tensor = end.value
            _check_finite(latents)
            return latents
        self._asked = edit.rows(self.point, self._times, self._windows)
        self._answers = []
        return None

    def report(self, done: int) -> None:
        """Tells its edits how many evaluations are behind them."""
        for job in self.work.jobs:
            job.evaluated(done)


def _check_finite(tensor: Tensor) -> None:
    if not torch.isfinite(tensor).all():
        raise EditError(Code.INTERNAL, "the edit's velocity is not finite; the edit was stopped")
