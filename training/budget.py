"""Training with a time budget: a run can be stopped at any time and resumed."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass
class Progress:
    """The minutes spent of a budget over all runs, and the figures recorded so far."""

    minutes: float  # the budget
    spent: float = 0.0
    step: int = 0
    figures: list[dict[str, float]] = field(default_factory=list)

    @property
    def share(self) -> float:
        return min(1.0, self.spent / self.minutes)


class Average:
    """Exponential moving average of a module's parameters."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        keep = min(
            self.decay, (1 + step) / (10 + step)
        )  # short at first: nothing of the start stays
        values = [p.detach() for _, p in module.named_parameters()]
        torch._foreach_lerp_(list(self.shadow.values()), values, 1 - keep)

    def state(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's state, with its parameters replaced by their averages."""
        return {**module.state_dict(), **self.shadow}


class Run:
    """A training run's state in a folder: weights, averages, optimizer, clock, random state.

    `turns()` yields the share of the budget that is spent, until it is used up. The state is saved
    every `every` seconds and at the end, and a new Run in the same folder resumes from it. Only the
    time in turns counts.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        minutes: float,
        *,
        decay: float = 0.999,
        every: float = 60.0,
    ) -> None:
        self.path = folder / f"{name}.pt"
        self.figures = folder / f"{name}.json"
        self.module, self.optimizer, self.every = module, optimizer, every
        self.average = Average(module, decay)
        self.progress = Progress(minutes)
        self.rng = torch.Generator().manual_seed(0)
        if self.path.exists():
            self._load()
            self.progress.minutes = minutes

    @property
    def done(self) -> bool:
        return self.progress.share >= 1

    def turns(self, seconds: Callable[[], float] = time.monotonic) -> Iterator[float]:
        started = saved = seconds()
        spent = self.progress.spent
        while not self.done:
            yield self.progress.share
            self.progress.step += 1
            self.average.update(self.module, self.progress.step)
            now = seconds()
            self.progress.spent = spent + (now - started) / 60
            if now - saved >= self.every:
                self.save()
                saved = now
        self.save()

    def note(self, **figures: float) -> None:
        """Keeps figures with the step and the minute, and prints them."""
        line = {"step": self.progress.step, "minute": round(self.progress.spent, 2), **figures}
        self.progress.figures.append(line)
        print(" ".join(f"{k} {v:.4g}" for k, v in line.items()), flush=True)

    def save(self) -> None:
        part = self.path.with_suffix(".part")
        torch.save(
            {
                "module": self.module.state_dict(),
                "average": self.average.shadow,
                "optimizer": self.optimizer.state_dict(),
                "rng": self.rng.get_state(),
                "progress": vars(self.progress),
            },
            part,
        )
        part.rename(self.path)
        self.figures.write_text(json.dumps(self.progress.figures, indent=1) + "\n")

    def _load(self) -> None:
        state = cast(dict[str, Any], torch.load(self.path, weights_only=True))
        self.module.load_state_dict(state["module"])
        self.average.shadow = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.set_state(state["rng"])
        self.progress = Progress(**state["progress"])


def rate(share: float, peak: float, *, warm: float = 0.01, flat: float = 0.5) -> float:
    """A learning rate: up within `warm` of the budget, flat until `flat`, then a cosine to 2 % of
    the peak."""
    if share < warm:
        return peak * (0.05 + 0.95 * share / warm)
    if share < flat:
        return peak
    fall = (share - flat) / (1 - flat)
    return peak * (0.02 + 0.98 * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * fall)))))


@contextmanager
def quick_products(device: str) -> Iterator[None]:
    """Uses bfloat16 for matrix products if the CPU has units for it: a step then takes three
    quarters of the time. Fused attention is slower this way and is turned off."""
    if device != "cpu":
        yield
        return
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    precision = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        products.fp32_precision = precision
