"""The contract: every parameter with its range and default, the limits, and the rules that more
than one side goes by. docs/contract.md explains it.

One folder, used by the server and by its clients. In the checkout both packages have a link to it
(`melodyflow.contract`, `melodyflow_client.contract`); their wheels carry a copy each, so that they
work alone and together. The standard library is all it needs.
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
    "told",
]
