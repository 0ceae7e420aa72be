"""Runs edits in an engine of their own and measures it."""

import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from melodyflow.edit import Parameters
from melodyflow.engine import MAX_TOKENS, Check, Engine, Job
from melodyflow.errors import Code, EditError
from melodyflow.model import MelodyFlow
from melodyflow.model.transformer import Row
from melodyflow.tools.operations import call_operations

VARIATIONS = [
    *("strings", "piano", "accordion", "drums", "flute"),
    *("choir", "organ", "bass", "celesta", "banjo"),
]


class Timed:
    """One edit in an engine, timed."""

    def __init__(
        self, engine: Engine, waveform: Tensor, parameters: Parameters, previews: int = 0
    ) -> None:
        self.previews: dict[int, Tensor] = {}  # by the evaluations done
        self.solving = threading.Event()
        self.ended = threading.Event()
        self.seconds = 0.0
        frames = engine.model.codec.config.frames(waveform.shape[-1])
        self.job = Job(parameters, frames, lambda check: waveform, self, previews=previews)
        self._started = time.perf_counter()
        engine.acquire(lambda: None)
        engine.submit(self.job)

    def progress(self, stage: str, done: int, total: int) -> None:
        if done:
            self.solving.set()

    def preview(self, waveform: Tensor, done: int, check: Check) -> None:
        self.previews[done] = waveform

    def finished(self, waveform: Tensor, job: Job, check: Check) -> None:
        self._end()

    def failed(self, error: EditError) -> None:
        if error.code != Code.CANCELLED:
            print(f"an edit failed: {error}", file=sys.stderr)
        self._end()

    def _end(self) -> None:
        self.seconds = time.perf_counter() - self._started
        self.ended.set()


class Calls:
    """The engine's network calls: their tokens and seconds."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.seconds: list[float] = []

    def in_flight(self, edits: int, frames: int) -> None:
        pass

    def evaluated(self, rows: int, tokens: int, seconds: float) -> None:
        self.tokens.append(tokens)
        self.seconds.append(seconds)

    def stage(self, name: str, seconds: float) -> None:
        pass

    def cached(self, cache_bytes: int) -> None:
        pass

    def inversion(self, found: str) -> None:
        pass


def engine_for(model: MelodyFlow, max_tokens: int | None = None) -> tuple[Engine, Calls]:
    """An engine with empty caches and no limit on edits in flight, and its network calls."""
    calls = Calls()
    engine = Engine(
        model,
        slots=100,
        max_frames=10**9,
        max_tokens=max_tokens or MAX_TOKENS[model.device.type],
        cache_bytes=2**28,
        metrics=calls,
    )
    return engine, calls


def clip(model: MelodyFlow, seconds: float, seed: int = 0) -> Tensor:
    """A clip of noise [channels, samples]; the content doesn't affect the time."""
    config = model.codec.config
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(config.channels, round(seconds * config.sample_rate), generator=generator) - 0.5
    )


@dataclass
class Counted:
    """A network that counts its operations."""

    model: MelodyFlow
    calls: list[float] = field(default_factory=list)

    def __call__(self, rows: Sequence[Row]) -> list[Tensor]:
        self.calls.append(call_operations(self.model.flow.config, rows))
        return self.model.network(rows)


class Kept(Timed):
    """One edit that keeps its result."""

    waveform: Tensor

    def finished(self, waveform: Tensor, job: Job, check: Check) -> None:
        self.waveform = waveform
        super().finished(waveform, job, check)


class Bench:
    """An engine with figures of its work."""

    def __init__(self, model: MelodyFlow) -> None:
        self.model = model
        self.counted = Counted(model)
        self.engine, self.calls = engine_for(model)
        self.engine.network = self.counted

    def run(self, edits: Sequence[tuple[Tensor, Parameters]]) -> tuple[list[Kept], float]:
        """Runs all edits at once. Returns them, and the seconds until the last one ended."""
        started = time.perf_counter()
        running = [Kept(self.engine, *each) for each in edits]
        for each in running:
            each.ended.wait()
        return running, time.perf_counter() - started

    def rate(self, first: int) -> dict[str, float]:
        """Operations and their rate, from network call number `first` on."""
        done = sum(self.counted.calls[first : len(self.calls.seconds)])
        seconds = sum(self.calls.seconds[first:])
        return {
            "tera_operations": done / 1e12,
            "network_s": seconds,
            "network_tflops": done / seconds / 1e12,
            "tokens_a_call": statistics.median(self.calls.tokens[first:]),
        }
