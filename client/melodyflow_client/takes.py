"""Takes: the same edit several times, each with its own seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .batch import at_low_priority, check_concurrency
from .contract import SEEDS
from .errors import InvalidRequest, MelodyFlowError, shown
from .options import EditOptions
from .presets import Presets
from .protocol import Edit, plan
from .responses import Result

TAKES = 4


@dataclass(frozen=True)
class TakeResult:
    """The outcome of one take: a result or an error; the other is None.

    seed: gives the same take again.
    """

    seed: int
    result: Result | None = None
    error: MelodyFlowError | None = None


@dataclass(frozen=True)
class Takes:
    """Planned takes: the edit, how many takes of it, and how many of them run at once."""

    edit: Edit
    count: int
    concurrency: int


def plan_takes(count: int, concurrency: int, options: EditOptions, presets: Presets) -> Takes:
    """Plans `count` takes of an edit, at low priority unless asked otherwise.

    Raises InvalidRequest, UnknownVariation.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= SEEDS:
        raise InvalidRequest(f"count: must be a whole number, at least 1, not {shown(count)}")
    check_concurrency(concurrency)
    edit = replace(plan(at_low_priority(options), presets), one_of_many=True)
    if edit.seed is not None and not -1 <= edit.seed < SEEDS:
        raise InvalidRequest(f"seed: must be 0 to {SEEDS - 1}, not {edit.seed}")
    return Takes(edit, count, concurrency)


def take_seeds(first: int, count: int) -> list[int]:
    """The seeds of `count` takes: `first` and those that follow it; 0 follows the largest."""
    return [(first + take) % SEEDS for take in range(count)]
