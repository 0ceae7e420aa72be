"""Drafts: edits with few steps, to choose by."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ..errors import InvalidRequest

DRAFT_STEPS = 4  # near the final result, at a sixth of its cost: docs/operations.md


def add_draft(solve: argparse._ArgumentGroup) -> None:
    solve.add_argument(
        "--draft",
        action="store_true",
        help=f"{DRAFT_STEPS} steps: fast, to choose by; the same seed without it makes the final "
        "result",
    )


def steps_of(arguments: argparse.Namespace) -> int | None:
    """The steps that are asked for. Raises InvalidRequest where it is a draft and has its own."""
    steps: int | None = arguments.steps
    if not arguments.draft:
        return steps
    if steps is not None:
        raise InvalidRequest(
            f"steps: {steps}; a draft has {DRAFT_STEPS}: leave out --steps or --draft"
        )
    return DRAFT_STEPS


def how_to_finish(seeds: Iterable[object]) -> str:
    """How drafts with these seeds are made final, in words."""
    known = set(seeds)
    seed = f"--seed {known.pop()}" if len(known) == 1 else "its --seed"
    return f"draft of {DRAFT_STEPS} steps; for the final result, leave out --draft and add {seed}"
