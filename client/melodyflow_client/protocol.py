"""The tensor contract as pure functions: options -> tensors, response tensors -> events.

docs/contract.md defines it. The server checks ranges, and its errors say what is allowed. Here only
what the client adds is checked, what a tensor can't hold, and whether a region fits its clip, which
would otherwise be uploaded for nothing.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from .contract import DEFAULT_LIMITS, INPUTS, OPTIONS, SOLVER_BOUND, Parameter, exclusion
from .errors import InvalidRequest, ServerError, shown
from .options import EditOptions, GenerateOptions
from .presets import CUSTOM, Presets
from .responses import Preview, Progress, Result

MODEL = "melodyflow"
_SHORTEST = DEFAULT_LIMITS["min_seconds"]

Array = npt.NDArray[Any]

_DTYPES = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_}


class Tensor(NamedTuple):
    """One input: `values` has the batch dimension, [1, 1]."""

    name: str
    datatype: str
    values: Array


class Region(NamedTuple):
    """A part of a clip, in seconds; end None: to the clip's end."""

    start: float
    end: float | None

    def check(self, seconds: float = math.inf, shortest: float = _SHORTEST) -> None:
        """Raises InvalidRequest unless it is in a clip of `seconds` and has `shortest` or more."""
        # A millisecond more is allowed, as on the server: lengths are often rounded.
        if self.end is not None and self.end > seconds + 0.001:
            raise InvalidRequest(f"end: {self.end:g} s is after the clip's end, {seconds:.6g} s")
        end = seconds if self.end is None else self.end
        # To the microsecond: 2.1 - 2 is a little less than 0.1.
        length = round(end - self.start, 6)
        if length < shortest or length <= 0:
            least = f"at least {shortest:g} s " if shortest else ""
            raise InvalidRequest(
                f"start: {self.start:g} s must be {least}before the end, {end:.6g} s"
            )


@dataclass(frozen=True)
class Edit:
    """What to do to a clip, or what music to make, as it was asked for.

    values: of the inputs, by name. seed: None: the clip's last one; -1: random.
    patience: seconds to wait for a server that went away; None: until the timeout, or without one
        as Retry says. even_unseen: also wait for one that has never answered.
    parameters: of the request, beside its inputs.
    one_of_many: one of several edits of its clip, which share work where one server gets them all.
    """

    values: Mapping[str, Any]
    variation: str | None = None
    seed: int | None = None
    new_take: bool = False
    priority: int = 0
    timeout: float | None = None
    patience: float | None = None
    even_unseen: bool = False
    parameters: Mapping[str, str | bool] = field(default_factory=dict)
    region: Region | None = None
    one_of_many: bool = False

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Its inputs, but audio, encoding and seed.

        Words and switches at the server's default are left out, so older servers without the input
        work, too.
        """
        return tuple(
            _tensor(INPUTS[name], value)
            for name, value in self.values.items()
            if not (_is_word(INPUTS[name]) and value == INPUTS[name].default)
        )

    def check(self, limits: Mapping[str, float], seconds: float = math.inf) -> None:
        """Raises InvalidRequest for what a server with these limits refuses.

        A limit that isn't in `limits` forbids nothing. seconds: the clip's length.
        """
        for name, value in self.values.items():
            row = INPUTS[name]
            size = len(value) if isinstance(value, str) else value
            if isinstance(row.highest, str) and not row.holds(size, limits):
                told = f"{size} characters" if isinstance(value, str) else f"{size:g}"
                raise InvalidRequest(f"{row.name}: {told}; {row.allowed(limits)}")
        if self.region is not None:
            self.region.check(seconds, limits.get("min_seconds", 0.0))


def plan(options: EditOptions, presets: Presets) -> Edit:
    """Plans an edit, its variation looked up. Raises InvalidRequest, UnknownVariation."""
    asked = _asked("an edit", options, "edit")
    values = _from_preset(asked.get("variation"), asked, presets)
    refused = exclusion({**asked, "seed": None} if asked.get("seed") == -1 else asked)
    if refused is not None:
        raise InvalidRequest(f"{refused.name}: {refused.because}")
    if "strength" in asked:
        values["flowstep"] = _flowstep(asked["strength"])
    region = _region(asked)
    edit = _edit(values, {"loudness": "source", **asked})
    return replace(edit, new_take=bool(asked.get("new_take", False)), region=region)


def plan_generation(prompt: str | None, options: GenerateOptions, presets: Presets) -> Edit:
    """Plans text-to-music. A variation lends its prompt only; its other settings are for edits.

    Raises InvalidRequest, UnknownVariation.
    """
    asked = _asked("text-to-music", {**options, "prompt": prompt}, "music")
    if "duration" not in asked:
        raise InvalidRequest("duration: text-to-music needs one, in seconds")
    if asked.get("loudness") == "source":
        raise InvalidRequest("loudness: text-to-music has no source; give LUFS or 'none'")
    variation = asked.get("variation", CUSTOM)
    values = {} if variation == CUSTOM else {"prompt": presets.find(variation).prompt}
    return _edit(values, asked)


def input_tensors(edit: Edit, audio: bytes | None, seed: int) -> list[Tensor]:
    """All inputs of a request. audio: the bytes of a WAV or FLAC file; None: text-to-music."""
    clip = [] if audio is None else [_bytes_tensor("audio", audio)]
    return [
        *clip,
        _bytes_tensor("encoding", b"raw"),
        Tensor("seed", "INT64", np.array([[seed]], dtype=np.int64)),
        *edit.tensors,
    ]


def decode_response(
    outputs: Mapping[str, Array], *, variation: str | None = None, request_id: str = ""
) -> Progress | Result:
    """The event in a response, given its outputs by name; the one with `audio` is the last.

    Raises ServerError.
    """
    try:
        if "audio" in outputs:
            return Result(
                audio=_as_bytes(outputs["audio"]),
                sample_rate=int(outputs["sample_rate"].reshape(-1)[0]),
                seed=int(outputs["seed"].reshape(-1)[0]),
                gain_db=float(outputs["gain_db"].reshape(-1)[0]),
                info=_info(outputs.get("info")),
                variation=variation,
                request_id=request_id,
            )
        step, total = (int(n) for n in outputs["step"].reshape(-1))
        if "preview" in outputs:
            # A preview doesn't say how far the edit is by now: the connection knows.
            file = _as_bytes(outputs["preview"])
            rate = int.from_bytes(file[18:21], "big") >> 4  # of FLAC: RFC 9639, section 8.2
            preview = Preview(file, rate, step, total, _info(outputs.get("info")))
            return Progress("generating", 0.0, step, total, preview)
        return Progress(
            stage=_as_bytes(outputs["stage"]).decode(),
            progress=float(outputs["progress"].reshape(-1)[0]),
            step=step,
            total=total,
        )
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ServerError(f"the response doesn't follow the contract: {error!r}") from error


def _asked(
    what: str, options: Mapping[str, Any], scope: Literal["edit", "music"]
) -> dict[str, Any]:
    """The options that were given. Raises TypeError for unknown ones, InvalidRequest."""
    for name in sorted(options):
        if name not in OPTIONS:
            raise TypeError(f"{what} has no option {name!r}")
        if not OPTIONS[name].is_for(scope):
            reason = "is for edits; text-to-music has no clip"
            if scope == "edit":
                reason = OPTIONS[name].because
            raise InvalidRequest(f"{name}: {reason}")
    return {name: value for name, value in options.items() if value is not None}


def _edit(values: dict[str, Any], asked: Mapping[str, Any]) -> Edit:
    """An edit with `values`, overridden by what was asked for."""
    values = values | {name: asked[name] for name in INPUTS if name in asked and name != "seed"}
    if "prompt" not in values:
        raise InvalidRequest(
            "prompt: variation 'custom' needs one"
            if asked.get("variation") == CUSTOM
            else "prompt: give a prompt or a variation"
        )
    parameters: dict[str, str | bool] = {}
    if "session_id" in asked:
        parameters["session_id"] = _text("session_id", asked["session_id"])
    if asked.get("metadata", True) is False:
        parameters["metadata"] = False
    return Edit(
        values={name: _value(INPUTS[name], value) for name, value in values.items()},
        variation=asked.get("variation"),
        seed=_whole("seed", asked["seed"], 63) if "seed" in asked else None,
        priority=_priority(asked.get("priority", 0)),
        timeout=_timeout(asked["timeout"]) if "timeout" in asked else None,
        parameters=parameters,
    )


def _region(asked: Mapping[str, Any]) -> Region | None:
    given = {name: _real(name, asked[name]) for name in ("start", "end") if name in asked}
    for name, value in given.items():
        if not 0 <= value < math.inf:
            raise InvalidRequest(f"{name}: must be a number of seconds, 0 or more, not {value:g}")
    if not given:
        return None
    region = Region(given.get("start", 0.0), given.get("end"))
    region.check(shortest=0.0)  # the server's limit is checked with the clip
    return region


def _from_preset(variation: object, asked: Mapping[str, Any], presets: Presets) -> dict[str, Any]:
    if variation is None or variation == CUSTOM:
        return {}
    preset = presets.find(variation)  # type: ignore[arg-type]  # find() refuses other types
    values: dict[str, Any] = {"prompt": preset.prompt, "flowstep": preset.flowstep}
    if asked.get("solver", preset.solver) != preset.solver:
        # Steps, R, K and lambda belong to the preset's solver; others have their own defaults.
        return values
    values["solver"] = preset.solver
    own = {name: getattr(preset, name) for name in SOLVER_BOUND}
    if "regularize_iters" in asked:
        del own["keep_last_k_iters"]  # K is at most R: the preset's K belongs to the preset's R
    return values | {name: value for name, value in own.items() if value is not None}


def _flowstep(strength: object) -> float:
    value = _real("strength", strength)
    if not 0 < value <= 1:
        raise InvalidRequest(
            f"strength: must be more than 0 and at most 1, not {value:g}; 1 = most change"
        )
    # 1 - 0.88 must equal the presets' 0.12, so that both share one inversion on the server.
    return round(1 - value, 7)


def _priority(value: object) -> int:
    number = _whole("priority", value, 63)
    if not 0 <= number <= 3:  # Triton silently takes any other number for the default
        raise InvalidRequest(f"priority: must be 1 (first), 2 (the default) or 3, not {number}")
    return number


def _timeout(value: object) -> float:
    seconds = _real("timeout", value)
    if not 0 < seconds < math.inf:
        raise InvalidRequest(f"timeout: must be a positive number of seconds, not {seconds:g}")
    return seconds


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name}: must be text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{name}: not valid Unicode: {error.reason}") from error
    return value


def _real(name: str, value: object) -> float:
    if isinstance(value, bool | str | bytes):
        raise InvalidRequest(f"{name}: must be a number, not {shown(value)}")
    try:
        return float(value)  # type: ignore[arg-type]  # numpy scalars and others with __float__
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"{name}: must be a number, not {shown(value)}") from error


def _whole(name: str, value: object, bits: int) -> int:
    """A whole number that fits in `bits` bits and a sign."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # refuses others
    except TypeError as error:
        raise InvalidRequest(f"{name}: must be a whole number, not {shown(value)}") from error
    if not -(2**bits) <= number < 2**bits:
        raise InvalidRequest(f"{name}: {number} is out of range for a {bits + 1}-bit number")
    return number


def _value(row: Parameter, value: object) -> Any:
    """A value of its input's type. Raises InvalidRequest."""
    if row.kind == "switch":
        if not isinstance(value, bool):
            raise InvalidRequest(f"{row.name}: must be True or False, not {shown(value)}")
        return value
    if row.kind == "whole":
        return _whole(row.name, value, 31)
    if row.kind == "number":
        return _real(row.name, value)
    if _is_word(row) and not (isinstance(value, str) and value in row.choices):
        return _level(row.name, value)
    return _text(row.name, value)


def _is_word(row: Parameter) -> bool:
    """Whether its values are true and false, or words as well as numbers."""
    return row.kind == "switch" or (row.kind == "text" and bool(row.choices))


def _level(name: str, value: object) -> str:
    """A number of LUFS as text, as the input has it."""
    try:
        level = _real(name, float(value) if isinstance(value, str) else value)
    except ValueError as error:
        raise InvalidRequest(
            f"{name}: must be 'source', 'none' or a number of LUFS such as -14, not {shown(value)}"
        ) from error
    return f"{level:.9g}"


def _tensor(row: Parameter, value: Any) -> Tensor:
    if row.wire == "BYTES":
        return _bytes_tensor(row.name, value.encode() if isinstance(value, str) else value)
    with np.errstate(over="ignore"):  # too large becomes infinite: the server refuses it
        return Tensor(row.name, row.wire, np.array([[value]]).astype(_DTYPES[row.wire]))


def _bytes_tensor(name: str, value: bytes) -> Tensor:
    values = np.empty((1, 1), dtype=np.object_)
    values[0, 0] = value
    return Tensor(name, "BYTES", values)


def _as_bytes(values: Array) -> bytes:
    value = values.reshape(-1)[0]
    return value.encode() if isinstance(value, str) else bytes(value)


def _info(values: Array | None) -> dict[str, Any]:
    info = {} if values is None else json.loads(_as_bytes(values))
    if not isinstance(info, dict):
        raise TypeError("info is not a JSON object")
    return info
