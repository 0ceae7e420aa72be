"""The tensor contract as pure functions: options -> tensors, response tensors -> events.

docs/contract.md is the truth. Ranges are the server's business, whose texts say what is allowed;
here is checked only what the client adds, and what a tensor cannot hold.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from .errors import InvalidRequest, ServerError
from .events import Progress, Result
from .presets import CUSTOM, Presets

MODEL = "melodyflow"

Array = npt.NDArray[Any]


class SweepOptions(TypedDict, total=False):
    """What the edits of a sweep can be asked for: EditOptions but variation and prompt."""

    source_prompt: str | None
    flowstep: float | None
    strength: float | None
    steps: int | None
    solver: str | None
    guidance: float | None
    regularize_iters: int | None
    keep_last_k_iters: int | None
    lambda_kl: float | None
    seed: int | None
    new_take: bool
    format: str | None
    sample_rate: int | None
    priority: int | None
    timeout: float | None
    session_id: str | None
    metadata: bool


class EditOptions(SweepOptions, total=False):
    """What an edit can be asked for; all of it optional but one of variation and prompt.

    variation: a name of `melodyflow variations`, or "custom" with a prompt.
    prompt: what the clip should become, 1-1000 characters; overrides the variation's own.
    source_prompt: what the clip is; conditions the inversion.
    flowstep: 0 <= flowstep < 1; 0 = most change, towards 1 = the source is kept.
    strength: 1 - flowstep, the other way to say it; 0 < strength <= 1, 1 = most change.
    steps: solver steps, 1-128. solver: "euler" or "midpoint".
    guidance: how strongly the prompt is followed, 0-10.
    regularize_iters, keep_last_k_iters, lambda_kl: R, K and the weight of the regularised
        inversion, euler only.
    seed: 0 to 2^31 - 1; left out, the last one used for the same clip by this client, or a random
        one. new_take: a random one even so.
    format: "wav" (PCM 16), "wav24", "wav32f" or "flac". sample_rate: of the result in Hz, 8000-
        192000; left out, the clip's own.
    priority: 1 overtakes 2 in the server's queue. timeout: seconds for all of it, retries included.
    session_id: a name for the server's log. metadata: False writes nothing about the edit into the
        file.
    """

    variation: str | None
    prompt: str | None


class Tensor(NamedTuple):
    """One input: `values` has the batch dimension, [1, 1]."""

    name: str
    datatype: str
    values: Array


@dataclass(frozen=True)
class Edit:
    """One edit as it was asked for, before its audio, seed and request id are known."""

    tensors: tuple[Tensor, ...]
    variation: str | None = None
    seed: int | None = None
    new_take: bool = False
    priority: int = 0
    timeout: float | None = None
    parameters: Mapping[str, str | bool] = field(default_factory=dict)


def plan(options: EditOptions, presets: Presets) -> Edit:
    """Options -> an edit, its variation looked up. Raises InvalidRequest, UnknownVariation."""
    asked: dict[str, Any] = {k: v for k, v in options.items() if v is not None}
    unknown = asked.keys() - EditOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"an edit has no option {sorted(unknown)[0]!r}")
    variation = asked.get("variation")
    values = _from_preset(variation, asked, presets)
    if "strength" in asked:
        if "flowstep" in asked:
            raise InvalidRequest("strength: is 1 - flowstep; give one of the two, not both")
        values["flowstep"] = _flowstep(asked["strength"])
    values |= {name: asked[name] for name in _ENCODERS if name in asked}
    if "prompt" not in values:
        raise InvalidRequest(
            "prompt: variation 'custom' needs one"
            if variation == CUSTOM
            else "prompt: give a prompt or a variation"
        )
    parameters: dict[str, str | bool] = {}
    if "session_id" in asked:
        parameters["session_id"] = _text("session_id", asked["session_id"])
    if asked.get("metadata", True) is False:
        parameters["metadata"] = False
    seed = _whole("seed", asked["seed"], 63) if "seed" in asked else None
    if seed not in (None, -1) and asked.get("new_take"):
        raise InvalidRequest("new_take: draws a new seed; give it or a seed, not both")
    return Edit(
        tensors=tuple(_ENCODERS[name](name, value) for name, value in values.items()),
        variation=variation,
        seed=seed,
        new_take=bool(asked.get("new_take", False)),
        priority=_priority(asked.get("priority", 0)),
        timeout=_timeout(asked["timeout"]) if "timeout" in asked else None,
        parameters=parameters,
    )


def input_tensors(edit: Edit, audio: bytes, seed: int) -> list[Tensor]:
    """All inputs of a request: the clip as WAV or FLAC bytes, the seed, and what was planned."""
    return [
        _bytes_tensor("audio", audio),
        _bytes_tensor("encoding", b"raw"),
        Tensor("seed", "INT64", np.array([[seed]], dtype=np.int64)),
        *edit.tensors,
    ]


def decode_response(
    outputs: Mapping[str, Array], *, variation: str | None = None, request_id: str = ""
) -> Progress | Result:
    """One response, its outputs by name, as an event. Raises ServerError.

    A response that carries `audio` is the last one.
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
        return Progress(
            stage=_as_bytes(outputs["stage"]).decode(),
            progress=float(outputs["progress"].reshape(-1)[0]),
            step=step,
            total=total,
        )
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ServerError(f"the response does not follow the contract: {error!r}") from error


def _from_preset(variation: object, asked: Mapping[str, Any], presets: Presets) -> dict[str, Any]:
    if variation is None or variation == CUSTOM:
        return {}
    preset = presets.find(variation)  # type: ignore[arg-type]  # find() refuses what is no name
    values: dict[str, Any] = {"prompt": preset.prompt, "flowstep": preset.flowstep}
    if asked.get("solver", preset.solver) != preset.solver:
        # Steps, R, K and lambda belong to the preset's solver: another one has its own defaults.
        return values
    values |= {"solver": preset.solver, "steps": preset.steps}
    own = {
        "regularize_iters": preset.regularize_iters,
        "keep_last_k_iters": preset.keep_last_k_iters,
        "lambda_kl": preset.lambda_kl,
    }
    if "regularize_iters" in asked:
        del own["keep_last_k_iters"]  # K is at most R: the preset's K belongs to the preset's R
    return values | {name: value for name, value in own.items() if value is not None}


def _flowstep(strength: object) -> float:
    value = _real("strength", strength)
    if not 0 < value <= 1:
        raise InvalidRequest(
            f"strength: must be more than 0 and at most 1, not {value:g}; 1 = most change"
        )
    # 1 - 0.88 is to be the 0.12 of a preset, so that both share one inversion on the server.
    return round(1 - value, 7)


def _priority(value: object) -> int:
    number = _whole("priority", value, 63)
    if number < 0:
        raise InvalidRequest(f"priority: must be 1 (first) or 2, not {number}")
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
        raise InvalidRequest(f"{name}: is not valid Unicode: {error.reason}") from error
    return value


def _real(name: str, value: object) -> float:
    if isinstance(value, bool | str | bytes):
        raise InvalidRequest(f"{name}: must be a number, not {value!r}")
    try:
        return float(value)  # type: ignore[arg-type]  # numpy scalars and others with __float__
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"{name}: must be a number, not {value!r}") from error


def _whole(name: str, value: object, bits: int) -> int:
    """A whole number of at most `bits` bits and a sign."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # refuses what is none
    except TypeError as error:
        raise InvalidRequest(f"{name}: must be a whole number, not {value!r}") from error
    if not -(2**bits) <= number < 2**bits:
        raise InvalidRequest(f"{name}: {number} is out of range")
    return number


def _bytes_tensor(name: str, value: bytes) -> Tensor:
    values = np.empty((1, 1), dtype=np.object_)
    values[0, 0] = value
    return Tensor(name, "BYTES", values)


def _text_tensor(name: str, value: object) -> Tensor:
    return _bytes_tensor(name, _text(name, value).encode())


def _real_tensor(name: str, value: object) -> Tensor:
    with np.errstate(over="ignore"):  # too large becomes infinite, which the server refuses
        return Tensor(name, "FP32", np.array([[_real(name, value)]]).astype(np.float32))


def _whole_tensor(name: str, value: object) -> Tensor:
    return Tensor(name, "INT32", np.array([[_whole(name, value, 31)]], dtype=np.int32))


# Input by input, how its value becomes a tensor; audio, encoding and seed are added later.
_ENCODERS = {
    "prompt": _text_tensor,
    "source_prompt": _text_tensor,
    "flowstep": _real_tensor,
    "steps": _whole_tensor,
    "solver": _text_tensor,
    "guidance": _real_tensor,
    "regularize_iters": _whole_tensor,
    "keep_last_k_iters": _whole_tensor,
    "lambda_kl": _real_tensor,
    "format": _text_tensor,
    "sample_rate": _whole_tensor,
}


def _as_bytes(values: Array) -> bytes:
    value = values.reshape(-1)[0]
    return value.encode() if isinstance(value, str) else bytes(value)


def _info(values: Array | None) -> dict[str, Any]:
    info = {} if values is None else json.loads(_as_bytes(values))
    if not isinstance(info, dict):
        raise TypeError("info is no JSON object")
    return info
