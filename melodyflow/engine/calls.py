"""Network calls for several edits at once. One edit's failure doesn't affect the rest, and calls
get smaller when memory runs out."""

import logging
import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from melodyflow.engine.gpu import Gpu
from melodyflow.model.transformer import Network, Row

log = logging.getLogger(__name__)

# Above these, a network call takes longer without a higher throughput.
MAX_TOKENS = {"cpu": 1024, "cuda": 12288}
GROWTH_CALLS = 100  # successful calls after which they may grow again


class CallMetrics(Protocol):
    """Metrics of network calls."""

    def evaluated(self, rows: int, tokens: int, seconds: float) -> None:
        """One network call finished."""


class Calls:
    """Calls the network for many edits at once. On a GPU, a call returns before it is done."""

    def __init__(
        self,
        network: Network,
        gpu: Gpu | None,
        max_tokens: int,
        metrics: CallMetrics,
        on_done: Callable[[], None],
    ) -> None:
        """`max_tokens`: per call. `on_done` is called when a call is done, before a later call
        returns."""
        self.network = network
        self.max_tokens = max_tokens
        self.tokens = max_tokens  # for the next call; lowered for a while after out-of-memory
        self._good_calls = 0  # since `tokens` changed
        self._gpu = gpu
        self._metrics = metrics
        self._on_done = on_done

    def evaluate(self, asked: list[list[Row]]) -> list[list[Tensor] | Exception]:
        """The network's answers to each solve's rows. If a shared call fails, its halves are tried
        separately, so that only the solve at fault fails."""
        try:
            answers = iter(self._call([row for rows in asked for row in rows]))
        except Exception as error:
            if len(asked) == 1:
                return [error]
            log.warning("a network call for %d edits failed: %r", len(asked), error)
            half = len(asked) // 2
            return self.evaluate(asked[:half]) + self.evaluate(asked[half:])
        return [[next(answers) for _ in rows] for rows in asked]

    def _call(self, rows: list[Row]) -> list[Tensor]:
        """One network call. If memory runs out, it is split in halves, and the next calls are
        smaller for a while."""
        tokens = sum(row.latents.shape[-1] for row in rows)
        try:
            answers = self._timed(rows, tokens)
        except (torch.OutOfMemoryError, MemoryError) as error:
            if len(rows) == 1:
                raise
            log.warning("out of memory at %d tokens: %s", tokens, error)
        else:
            self._good_calls += 1
            if self._good_calls >= GROWTH_CALLS and self.tokens < self.max_tokens:
                self.tokens, self._good_calls = min(2 * self.tokens, self.max_tokens), 0
            return answers
        # Outside the handler: the error's traceback holds what the failed call had allocated.
        if self._gpu:
            torch.cuda.empty_cache()
        half = len(rows) // 2
        answers = self._call(rows[:half]) + self._call(rows[half:])
        # Only now: if a single row fails, the size of the call wasn't the cause.
        self.tokens, self._good_calls = min(self.tokens, max(1, tokens // 2)), 0
        return answers

    def _timed(self, rows: list[Row], tokens: int) -> list[Tensor]:
        def done(seconds: float) -> None:
            self._metrics.evaluated(len(rows), tokens, seconds)
            self._on_done()

        if self._gpu:
            return self._gpu.queue(lambda: self.network(rows), done)
        started = time.monotonic()
        answers = self.network(rows)
        done(time.monotonic() - started)
        return answers
