"""The named variations: each has a prompt and the settings to solve for it.

The built-in ones are contract/presets.json. Your own file, given as an argument or by
$MELODYFLOW_PRESETS, is merged over it name by name, once it is checked against
contract/presets.schema.json.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contract import PRESET_SETTINGS, SOLVER_BOUND, default_of
from .errors import PresetError, UnknownVariation, shown

if TYPE_CHECKING:
    from jsonschema import ValidationError

CUSTOM = "custom"  # the name of a prompt of your own
PRESETS_VARIABLE = "MELODYFLOW_PRESETS"

_KINDS = {"object": "an object", "string": "a string"}
_CONTRACT = Path(__file__).resolve().parent / "contract"


@dataclass(frozen=True)
class Preset:
    """One variation with all its settings.

    flowstep: 0 <= flowstep < 1; 0 = most change, towards 1 = the source is kept.
    steps, regularize_iters, keep_last_k_iters, lambda_kl: belong to `solver`; an edit with another
        solver uses that solver's defaults. None: the server's default.
    """

    name: str
    category: str
    prompt: str
    flowstep: float
    steps: int
    solver: str
    regularize_iters: int | None = None
    keep_last_k_iters: int | None = None
    lambda_kl: float | None = None


class Presets(Mapping[str, Preset]):
    """Variations by name, in the order of their files."""

    def __init__(self, presets: Mapping[str, Preset]) -> None:
        self._presets = dict(presets)

    def __getitem__(self, name: str) -> Preset:
        return self._presets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._presets)

    def __len__(self) -> int:
        return len(self._presets)

    def find(self, name: str) -> Preset:
        """The variation of this name. Raises UnknownVariation with the nearest names."""
        try:
            return self._presets[name]
        except (KeyError, TypeError):
            raise UnknownVariation(str(name), self._presets) from None

    def by_category(self) -> dict[str, list[Preset]]:
        """Variations by category, both in the order of their files."""
        groups: dict[str, list[Preset]] = {}
        for preset in self._presets.values():
            groups.setdefault(preset.category, []).append(preset)
        return groups


def load_presets(path: str | os.PathLike[str] | None = None) -> Presets:
    """The built-in variations, with those of `path`, else of $MELODYFLOW_PRESETS, merged over them.

    Raises PresetError, which names the file, the field, its value and what is allowed.
    """
    built_in = _read(_CONTRACT / "presets.json")
    presets = _complete(built_in, {}, "other")
    own = path if path is not None else os.environ.get(PRESETS_VARIABLE) or None
    if own is not None:
        document = _read(Path(own))
        problem = find_problem(document)
        if problem is not None:
            raise PresetError(f"{own}: {problem}")
        presets |= _complete(document, built_in.get("defaults", {}), "own")
    return Presets(presets)


def find_problem(document: object) -> str | None:
    """How a decoded file of variations breaks the schema, as "field: problem"; None if it doesn't.

    The built-in file is held to the schema by a test: only your own file needs the validator, which
    takes longer to import than all variations to load.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    schema = _read(_CONTRACT / "presets.schema.json")
    error = best_match(Draft202012Validator(schema).iter_errors(document))
    return None if error is None else _describe(error)


def _describe(error: ValidationError) -> str:
    """A violation in our words: the schema's `errorMessage` says what is allowed."""
    path = [*error.absolute_path]
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"{_field(*path, missing)}: is missing"
    if error.validator == "additionalProperties":
        allowed = error.schema["properties"]
        unknown = next(name for name in error.instance if name not in allowed)
        return f"{_field(*path, unknown)}: is unknown; allowed are {', '.join(allowed)}"
    expected = error.schema.get("errorMessage") or f"must be {_KINDS[error.schema['type']]}"
    if "propertyNames" in error.schema_path:  # the value is the name itself
        return f"{_field(*path, error.instance)}: {expected}"
    problem = f"{expected}, not {shown(error.instance)}"
    return f"{_field(*path)}: {problem}" if path else problem


def _field(*path: object) -> str:
    return ".".join(str(part)[:64] for part in path)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_refuse_constant)
    except OSError as error:
        reason = error.strerror or error
        raise PresetError(f"{path}: cannot read the variations: {reason}") from error
    except ValueError as error:  # bad JSON or bad UTF-8
        raise PresetError(f"{path}: not JSON: {error}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _complete(document: dict[str, Any], base: dict[str, Any], category: str) -> dict[str, Preset]:
    defaults = _inherit(document.get("defaults", {}), base)
    presets = {}
    for name, entry in document["variations"].items():
        values = {"category": category, **entry, **_inherit(entry, defaults)}
        values.setdefault("flowstep", default_of("flowstep"))
        values.setdefault("solver", default_of("solver"))
        values.setdefault("steps", default_of("steps", solver=values["solver"]))
        presets[name] = Preset(name=name, **values)
    return presets


def _inherit(own: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The settings of `own`, and those of `base` that it lacks and that suit its solver."""
    same_solver = own.get("solver", base.get("solver")) == base.get("solver")
    inherited = {k: v for k, v in base.items() if same_solver or k not in SOLVER_BOUND}
    return inherited | {
        name: int(own[name]) if row.kind == "whole" else own[name]  # to JSON 25.0 is whole, too
        for name, row in PRESET_SETTINGS.items()
        if name in own
    }
