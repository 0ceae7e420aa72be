"""The named variations: a prompt each, and how to solve for it.

The shipped ones are contract/presets.json. A file of one's own in the same form, named as an
argument or by MELODYFLOW_PRESETS, is merged over it, name by name. presets.schema.json beside it
describes the form for editors; the same rules are checked here by hand, so that the client needs no
schema library.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .contract import PARAMETERS, PRESET_SETTINGS, SOLVER_BOUND, Parameter, default_of
from .errors import PresetError, UnknownVariation, shown

CUSTOM = "custom"  # the name that stands for a prompt of the caller's own
PRESETS_VARIABLE = "MELODYFLOW_PRESETS"

_SHIPPED = Path(__file__).resolve().parent / "contract" / "presets.json"
_PROMPT = PARAMETERS["prompt"]
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
_SETTINGS = tuple(PRESET_SETTINGS)


@dataclass(frozen=True)
class Preset:
    """One variation, complete.

    flowstep: 0 <= flowstep < 1; 0 = most change, towards 1 = the source is kept.
    steps, regularize_iters, keep_last_k_iters, lambda_kl: belong to `solver`; where another solver
        is asked for, that solver's own defaults apply. None: the server's default.
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
        """The variation of this name; UnknownVariation, with the nearest names, if none is."""
        try:
            return self._presets[name]
        except (KeyError, TypeError):
            raise UnknownVariation(str(name), self._presets) from None

    def by_category(self) -> dict[str, list[Preset]]:
        """Variations grouped by category, both in the order of their files."""
        groups: dict[str, list[Preset]] = {}
        for preset in self._presets.values():
            groups.setdefault(preset.category, []).append(preset)
        return groups


def load_presets(path: str | os.PathLike[str] | None = None) -> Presets:
    """The shipped variations, and over them those of `path` or else of $MELODYFLOW_PRESETS.

    Raises PresetError, naming the file and the field.
    """
    document = _read(_SHIPPED)
    presets = _complete(document, {}, "other")
    own = path if path is not None else os.environ.get(PRESETS_VARIABLE) or None
    if own is not None:
        presets |= _complete(_read(Path(own)), document.get("defaults", {}), "own")
    return Presets(presets)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = error.strerror or error
        raise PresetError(f"{path}: cannot read the variations: {reason}") from error
    except ValueError as error:  # bad JSON and bad UTF-8
        raise PresetError(f"{path}: not JSON: {error}") from error
    problem = find_problem(document)
    if problem is not None:
        raise PresetError(f"{path}: {problem}")
    result: dict[str, Any] = document
    return result


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
    """Settings of `own`, completed from `base` as far as both mean the same solver."""
    same_solver = own.get("solver", base.get("solver")) == base.get("solver")
    inherited = {k: v for k, v in base.items() if same_solver or k not in SOLVER_BOUND}
    return inherited | {k: own[k] for k in _SETTINGS if k in own}


def find_problem(document: object) -> str | None:
    """What is wrong with a decoded file of variations, as "field: what", or None."""
    if not isinstance(document, dict):
        return f"must be an object with the key 'variations', not {_kind(document)}"
    return (
        _unknown_keys(document, ("$schema", "defaults", "variations"), "")
        or _schema_key(document)
        or _defaults(document.get("defaults", {}))
        or _variations(document)
    )


def _schema_key(document: dict[str, Any]) -> str | None:
    if isinstance(document.get("$schema", ""), str):
        return None
    return f"$schema: must be a string, not {_kind(document['$schema'])}"


def _defaults(defaults: object) -> str | None:
    if not isinstance(defaults, dict):
        return f"defaults: must be an object, not {_kind(defaults)}"
    return _unknown_keys(defaults, _SETTINGS, "defaults.") or _settings(defaults, "defaults.")


def _variations(document: dict[str, Any]) -> str | None:
    if "variations" not in document:
        return "variations: is missing"
    variations = document["variations"]
    if not isinstance(variations, dict):
        return f"variations: must be an object, not {_kind(variations)}"
    for name, entry in variations.items():
        problem = _variation(name, entry)
        if problem is not None:
            return problem
    return None


def _variation(name: str, entry: object) -> str | None:
    where = f"variations.{name}"
    if not _NAME.fullmatch(name):
        return f"{where}: a name is 1-64 of a-z, 0-9 and _, and does not start with _"
    if name == CUSTOM:
        return f"{where}: 'custom' stands for a prompt of the caller's own; choose another name"
    if not isinstance(entry, dict):
        return f"{where}: must be an object, not {_kind(entry)}"
    unknown = _unknown_keys(entry, ("category", "prompt", *_SETTINGS), f"{where}.")
    if unknown is not None:
        return unknown
    if "prompt" not in entry:
        return f"{where}.prompt: is missing"
    prompt = entry["prompt"]
    if not isinstance(prompt, str) or not _PROMPT.holds(len(prompt)):
        low, high = _PROMPT.bounds()
        return f"{where}.prompt: must be a string of {low}-{high} characters"
    category = entry.get("category", "own")
    if not isinstance(category, str) or not _NAME.fullmatch(category):
        return f"{where}.category: must be a word of a-z, 0-9 and _, not {shown(category)}"
    return _settings(entry, f"{where}.")


def _settings(settings: dict[str, Any], where: str) -> str | None:
    problems = (
        _problem(row, settings[name]) for name, row in PRESET_SETTINGS.items() if name in settings
    )
    problem = next(filter(None, problems), None)
    return f"{where}{problem}" if problem else None


def _problem(row: Parameter, value: object) -> str | None:
    if row.kind == "choice":
        good = isinstance(value, str) and value in row.choices
        return (
            None if good else f"{row.name}: must be {' or '.join(row.choices)}, not {shown(value)}"
        )
    whole = row.kind == "whole"
    typed = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if typed and row.holds(value):  # type: ignore[arg-type]  # it is a number
        return None
    low, high = row.bounds()
    if whole:
        exception = "" if row.without is None else f" and not {row.without}"
        wanted = f"a whole number {low}-{high}{exception}"
    else:
        wanted = f"a number, at least {low} and {'less than' if row.below else 'at most'} {high}"
    return f"{row.name}: must be {wanted}, not {shown(value)}"


def _unknown_keys(found: dict[str, Any], known: tuple[str, ...], where: str) -> str | None:
    for key in found:
        if key not in known:
            return f"{where}{key}: is not known; allowed are {', '.join(known)}"
    return None


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a truth value"}
    return "null" if value is None else kinds.get(type(value), "a number")
