"""The contract: every parameter with its range and default, the limits, and the rules that both
server and clients apply. docs/contract.md explains it.

In the checkout both packages have a link to this folder (`melodyflow.contract`,
`melodyflow_client.contract`); their wheels carry a copy each, so they work alone and together. It
needs nothing but the standard library.
"""

from .limits import DEFAULT_LIMITS, IN_FORCE, LIMIT_NAMES, MOST_SECONDS, Limits, told
from .outputs import OUTPUTS, Output
from .parameter import Parameter
from .parameters import (
    INPUTS,
    OPTIONS,
    PARAMETERS,
    PRESET_SETTINGS,
    QUIETEST,
    REQUEST,
    SEEDS,
    SOLVER_BOUND,
    TRITONS_OWN,
    default_of,
)
from .rules import (
    complete,
    draw_seed,
    evaluations,
    exclusion,
    inversion_evaluations,
    new_seed,
    preview_steps,
)

__all__ = [
    "DEFAULT_LIMITS",
    "INPUTS",
    "IN_FORCE",
    "LIMIT_NAMES",
    "MOST_SECONDS",
    "OPTIONS",
    "OUTPUTS",
    "PARAMETERS",
    "PRESET_SETTINGS",
    "QUIETEST",
    "REQUEST",
    "SEEDS",
    "SOLVER_BOUND",
    "TRITONS_OWN",
    "Limits",
    "Output",
    "Parameter",
    "complete",
    "default_of",
    "draw_seed",
    "evaluations",
    "exclusion",
    "inversion_evaluations",
    "new_seed",
    "preview_steps",
    "told",
]
