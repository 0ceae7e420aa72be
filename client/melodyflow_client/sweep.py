"""A sweep: one clip edited to several variations, all with the same seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .batch import at_low_priority, check_concurrency
from .errors import InvalidRequest, MelodyFlowError, shown
from .options import EditOptions, SweepOptions
from .presets import Presets
from .protocol import Edit, plan
from .responses import Result


@dataclass(frozen=True)
class SweepResult:
    """The outcome of one variation: a result or an error; the other is None."""

    variation: str
    result: Result | None = None
    error: MelodyFlowError | None = None


@dataclass(frozen=True)
class Sweep:
    """A planned sweep: its edits by variation, and how many of them run at once."""

    edits: Mapping[str, Edit]
    concurrency: int


def plan_sweep(
    variations: Iterable[str] | None, concurrency: int, options: SweepOptions, presets: Presets
) -> Sweep:
    """Plans one edit per variation, at low priority unless asked otherwise; None: all variations.

    Raises InvalidRequest, UnknownVariation.
    """
    unknown = options.keys() - SweepOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"a sweep has no option {sorted(unknown)[0]!r}")
    if isinstance(variations, str):
        raise InvalidRequest(f"variations: must be a list of names, not {shown(variations)}")
    check_concurrency(concurrency)
    edits = {}
    for name in presets if variations is None else variations:
        asked: EditOptions = {"prompt": None, **options, "variation": name}
        edits[name] = replace(plan(at_low_priority(asked), presets), one_of_many=True)
    return Sweep(edits, concurrency)
