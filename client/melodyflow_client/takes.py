"""Takes: one edit of one clip many times over, each with a seed of its own."""

from __future__ import annotations

from dataclasses import dataclass

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
    """What came of one take: a result, or the error that it ended with; the other is None.

    seed: asks for the same take again.
    """

    seed: int
    result: Result | None = None
    error: MelodyFlowError | None = None


@dataclass(frozen=True)
class Takes:
    """Takes as they were asked for: the edit, how many of it, and how many of them at once."""

    edit: Edit
    count: int
    concurrency: int


def plan_takes(count: int, concurrency: int, options: EditOptions, presets: Presets) -> Takes:
    """So many takes of an edit, at low priority unless asked otherwise.

    Raises InvalidRequest, UnknownVariation.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= SEEDS:
        raise InvalidRequest(f"count: must be a whole number, at least 1, not {shown(count)}")
    check_concurrency(concurrency)
    edit = plan(at_low_priority(options), presets)
    if edit.seed is not None and not -1 <= edit.seed < SEEDS:
        raise InvalidRequest(f"seed: must be 0 to {SEEDS - 1}, not {edit.seed}")
    return Takes(edit, count, concurrency)


def take_seeds(first: int, count: int) -> list[int]:
    """The seeds of so many takes: the first one and those that follow it, 0 after the last."""
    return [(first + take) % SEEDS for take in range(count)]
