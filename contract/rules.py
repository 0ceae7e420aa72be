"""Rules that both server and clients apply."""

import secrets
from collections.abc import Mapping
from typing import Any

from .parameter import Parameter
from .parameters import OPTIONS, PARAMETERS, SEEDS, default_of


def draw_seed() -> int:
    """A random seed."""
    return secrets.randbelow(SEEDS)


def new_seed(seed: int | None, new_take: bool) -> int | None:
    """The seed that replaces a clip's last one: the one asked for, or a random one for a new take
    or -1. None: the last one stays, or the first one is drawn."""
    if seed is not None and seed >= 0:
        return seed
    return draw_seed() if new_take or seed is not None else None


def exclusion(asked: Mapping[str, Any]) -> Parameter | None:
    """The first parameter that can't be combined with another one given, if there is any."""
    given = {name for name, value in asked.items() if value is not None and value is not False}
    for parameter in PARAMETERS.values():
        if parameter.name in given and given.intersection(parameter.excludes):
            return parameter
    return None


def complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options with defaults filled in, as far as they are known before the request is read."""
    music = values.get("duration") is not None
    solver = values.get("solver") or default_of("solver", music=music)
    defaults = {
        name: default_of(name, solver=solver, music=music)
        for name, parameter in OPTIONS.items()
        if parameter.wire and parameter.is_for("music" if music else "edit")
    }
    given = {name: value for name, value in values.items() if value is not None}
    completed = {**defaults, **given}
    if not music and not completed["regularize_iters"]:
        completed["keep_last_k_iters"] = given.get("keep_last_k_iters", 0)
    return completed


def inversion_evaluations(steps: int, regularize_iters: int) -> int:
    """Evaluations of an edit's first solve."""
    return steps * max(regularize_iters, 1)


def preview_steps(previews: int, steps: int) -> list[int]:
    """The steps of a generation, 1 to steps - 1, after which previews are made. There are fewer
    than asked for if there are fewer such steps."""
    return sorted({round(n * steps / (previews + 1)) for n in range(1, previews + 1)} - {0, steps})


def evaluations(steps: int, regularize_iters: int, *, music: bool) -> int:
    """Evaluations of an edit, steps * (R + 1) or 2 * steps; for text-to-music, steps."""
    return steps if music else inversion_evaluations(steps, regularize_iters) + steps
