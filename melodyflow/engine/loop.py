"""The step loop: one thread that makes network calls. Solves join and leave between the calls."""

import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor

from melodyflow.engine.calls import CallMetrics, Calls
from melodyflow.engine.gpu import Gpu
from melodyflow.engine.schedule import Schedule
from melodyflow.engine.solving import Solving, Work
from melodyflow.model.transformer import Network

log = logging.getLogger(__name__)


class Owner(Protocol):
    """Gets what becomes of the solves. All methods but `died` must be quick."""

    def wanted(self, work: Work) -> bool:
        """Whether anyone still waits for this solve. Asked before each network call; if not, the
        loop drops the solve."""

    def formed(self, work: Work, latents: Tensor, done: int) -> None:
        """An estimate of a generation's latents, after so many evaluations."""

    def solved(self, work: Work, latents: Tensor) -> None:
        """The solve is done: its latents [1, latent, frames]."""

    def failed(self, work: Work, error: Exception) -> None:
        """The solve failed."""

    def died(self, works: list[Work]) -> None:
        """The loop died with these unfinished. It accepts no more."""


class StepLoop:
    """Advances solves, many in one network call."""

    def __init__(
        self,
        network: Network,
        gpu: Gpu | None,
        max_tokens: int,
        metrics: CallMetrics,
        owner: Owner,
    ) -> None:
        """`max_tokens`: of one network call."""
        self._calls = Calls(network, gpu, max_tokens, metrics, self._report)
        self._gpu = gpu
        self._owner = owner
        self._schedule = Schedule()
        self._changed = threading.Condition()  # guards what other threads set: the next four
        self._new: list[tuple[Work, Callable[[], Solving]]] = []  # solves to begin
        self._closing = False
        self._dead = False
        self._broken: Exception | None = None
        self._ready: list[Solving] = []  # waiting for a velocity
        self._asked: list[Solving] = []  # in the running network call
        self._unreported: list[tuple[Solving, int]] = []  # evaluations the GPU is still computing
        self._thread = threading.Thread(target=self._run, name="step-loop", daemon=True)

    @property
    def network(self) -> Network:
        """The network that all solves ask."""
        return self._calls.network

    @network.setter
    def network(self, network: Network) -> None:
        self._calls.network = network

    @property
    def dead(self) -> bool:
        """Whether the loop died of an error of its own."""
        return self._dead

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def begin(self, work: Work, make: Callable[[], Solving]) -> bool:
        """Adds a solve; False if the loop is dead. The loop itself calls `make`, so that on a GPU
        everything the solve holds is allocated on the loop's stream."""
        with self._changed:
            if not self._dead:
                self._new.append((work, make))
                self._changed.notify_all()
            return not self._dead

    def kill(self, error: Exception) -> None:
        """Ends the loop with this error before its next network call."""
        with self._changed:
            self._broken = error
            self._changed.notify_all()

    def close(self) -> None:
        """Returns when all solves have ended."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

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
        """Makes one network call for some of the solves that wait for a velocity; False at the
        end."""
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
        self._ready = [solving for solving in self._ready if self._owner.wanted(solving.work)]
        if not self._ready:
            return True
        slack = self._calls.max_tokens // 8
        chosen = self._schedule.choose(self._ready, self._calls.tokens, slack)
        self._asked = [solving for solving, _ in chosen]
        self._ready = [solving for solving in self._ready if solving not in self._asked]
        asked = [solving.rows(turns) for solving, turns in chosen]
        for (solving, _), answers in zip(chosen, self._calls.evaluate(asked), strict=True):
            self._advance(solving, answers)
        self._asked = []
        return True

    def _begin_new(self) -> None:
        new, self._new = self._new, []
        for work, make in new:
            try:
                self._ready.append(make())
            except Exception as error:
                self._owner.failed(work, error)

    def _advance(self, solving: Solving, answers: list[Tensor] | Exception) -> None:
        """Passes a solve its answers: it then waits for more, is done or has failed."""
        try:
            if isinstance(answers, Exception):
                raise answers
            before = solving.done
            latents = solving.answer(answers)
            if solving.done > before:
                if solving.estimate is not None:
                    self._owner.formed(solving.work, solving.estimate, solving.done)
                self._unreported.append((solving, solving.done))
            if latents is not None and self._gpu:
                self._gpu.settle()
            if latents is not None or not self._gpu:
                self._report()
        except Exception as error:
            self._owner.failed(solving.work, error)
            return
        if latents is None:
            self._ready.append(solving)
        else:
            self._owner.solved(solving.work, latents)

    def _report(self) -> None:
        """Reports the finished evaluations to their edits."""
        unreported, self._unreported = self._unreported, []
        for solving, done in unreported:
            solving.report(done)

    def _die(self) -> None:
        with self._changed:
            self._dead = True
            works = [solving.work for solving in (*self._ready, *self._asked)]
            works += [work for work, _ in self._new]
            self._new, self._ready = [], []
        self._owner.died(works)
