"""The tensor contract as pure functions: options -> tensors, response tensors -> events.

docs/contract.md is the truth. Ranges are the server's business, whose texts say what is allowed;
here is checked what the client adds, what a tensor cannot hold, and where in the clip a region
lies, before the clip is uploaded for nothing.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from .errors import InvalidRequest, ServerError, shown
from .events import Progress, Result
from .presets import CUSTOM, Presets

MODEL = "melodyflow"
SHORTEST_REGION = 0.1  # seconds

Array = npt.NDArray[Any]


class CommonOptions(TypedDict, total=False):
    """What edits and text-to-music can both be asked for; EditOptions says what it means."""

    steps: int | None
    solver: str | None
    guidance: float | None
    seed: int | None
    format: str | None
    sample_rate: int | None
    loudness: float | str | None
    priority: int | None
    timeout: float | None
    session_id: str | None
    metadata: bool


class SweepOptions(CommonOptions, total=False):
    """What the edits of a sweep can be asked for: EditOptions but variation and prompt."""

    source_prompt: str | None
    flowstep: float | None
    strength: float | None
    regularize_iters: int | None
    keep_last_k_iters: int | None
    lambda_kl: float | None
    new_take: bool
    start: float | None
    end: float | None
    loop: bool


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
    start, end: the region to edit, in seconds of the clip, at least 0.1 s of it; what is outside
        stays as it is. Left out: the clip's start and end. A clip whose peak is above full scale (a
        hot MP3) needs the format "wav32f" then.
    loop: the clip is a loop, and the result is to repeat without a seam; not with a region.
    format: "wav" (PCM 16), "wav24", "wav32f" or "flac". sample_rate: of the result in Hz, 8000-
        192000; left out, the clip's own.
    loudness: "source" (the clip's own, the default), "none" (as the model makes it) or a number of
        LUFS such as -14, but no further than to a peak of -1 dBTP; Result.loudness says what
        came of it.
    priority: 1 overtakes 2, the default, which overtakes 3 in the server's queue.
    timeout: seconds for all of it, retries and a server's restart included.
    session_id: a name for the server's log. metadata: False writes nothing about the edit into the
        file.
    """

    variation: str | None
    prompt: str | None


class GenerateOptions(CommonOptions, total=False):
    """What text-to-music can be asked for beside its prompt.

    duration: of the result in seconds; needed.
    variation: a name, for its prompt; the rest of a variation is made for edits.
    solver: "midpoint" unless asked otherwise. loudness: a number of LUFS, or "none", the default:
        there is no source. seed: left out, a random one. The others are as in EditOptions.
    """

    duration: float
    variation: str | None


class Tensor(NamedTuple):
    """One input: `values` has the batch dimension, [1, 1]."""

    name: str
    datatype: str
    values: Array


class Region(NamedTuple):
    """A part of a clip, in seconds; end None: the clip's own."""

    start: float
    end: float | None

    def check(self, seconds: float = math.inf) -> None:
        """InvalidRequest where it is no part of a clip of `seconds`."""
        # By a millisecond it may be late, as the server allows: lengths are often rounded.
        if self.end is not None and self.end > seconds + 0.001:
            raise InvalidRequest(f"end: {self.end:g} is beyond the clip's, {seconds:.6g} s")
        end = seconds if self.end is None else self.end
        # To the microsecond: 2.1 - 2 is a little less than 0.1.
        if round(end - self.start, 6) < SHORTEST_REGION:
            raise InvalidRequest(
                f"start: {self.start:g} must be at least {SHORTEST_REGION} s before the end, "
                f"{end:.6g} s"
            )


@dataclass(frozen=True)
class Edit:
    """One edit, or text-to-music, as it was asked for, before its audio and seed are known.

    patience: seconds that a server which went away is waited for; None: until the timeout, or as
    Retry says where there is none. even_unseen: one that has never answered is waited for, too.
    """

    tensors: tuple[Tensor, ...]
    variation: str | None = None
    seed: int | None = None
    new_take: bool = False
    priority: int = 0
    timeout: float | None = None
    patience: float | None = None
    even_unseen: bool = False
    parameters: Mapping[str, str | bool] = field(default_factory=dict)
    region: Region | None = None


def plan(options: EditOptions, presets: Presets) -> Edit:
    """Options -> an edit, its variation looked up. Raises InvalidRequest, UnknownVariation."""
    if "duration" in options:
        raise InvalidRequest("duration: is for text-to-music; an edit is as long as its clip")
    asked = _asked("an edit", options, _EDIT)
    values = _from_preset(asked.get("variation"), asked, presets)
    if "strength" in asked:
        if "flowstep" in asked:
            raise InvalidRequest("strength: is 1 - flowstep; give one of the two, not both")
        values["flowstep"] = _flowstep(asked["strength"])
    region = _region(asked)
    if region and asked.get("loop"):
        raise InvalidRequest("loop: is for the whole clip; give it or a region, not both")
    edit = _edit(values, {"loudness": "source", **asked})
    if edit.seed not in (None, -1) and asked.get("new_take"):
        raise InvalidRequest("new_take: draws a new seed; give it or a seed, not both")
    return replace(edit, new_take=bool(asked.get("new_take", False)), region=region)


def plan_generation(prompt: str | None, options: GenerateOptions, presets: Presets) -> Edit:
    """Text-to-music; of a variation only the prompt is used, the rest of it is made for edits.

    Raises InvalidRequest, UnknownVariation.
    """
    asked = _asked("text-to-music", {**options, "prompt": prompt}, _GENERATE)
    if "duration" not in asked:
        raise InvalidRequest("duration: text-to-music needs one, in seconds")
    if asked.get("loudness") == "source":
        raise InvalidRequest("loudness: text-to-music has no source; give a number of LUFS or none")
    variation = asked.get("variation", CUSTOM)
    values = {} if variation == CUSTOM else {"prompt": presets.find(variation).prompt}
    return _edit(values, asked)


def input_tensors(edit: Edit, audio: bytes | None, seed: int) -> list[Tensor]:
    """All inputs of a request: what was planned, the seed, and the clip as WAV or FLAC bytes; None
    for text-to-music.
    """
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


def _asked(what: str, options: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Options but those left to their defaults. Raises TypeError for what is none."""
    for name in sorted(options.keys() - set(known)):
        if name in _EDIT:
            raise InvalidRequest(f"{name}: is for edits; {what} has no clip")
        raise TypeError(f"{what} has no option {name!r}")
    return {name: value for name, value in options.items() if value is not None}


def _edit(values: dict[str, Any], asked: Mapping[str, Any]) -> Edit:
    """`values`, and over them what was asked for, as an edit."""
    values = values | {name: asked[name] for name in _ENCODERS if name in asked}
    if "prompt" not in values:
        raise InvalidRequest(
            "prompt: variation 'custom' needs one"
            if asked.get("variation") == CUSTOM
            else "prompt: give a prompt or a variation"
        )
    tensors = (_ENCODERS[name](name, value) for name, value in values.items())
    parameters: dict[str, str | bool] = {}
    if "session_id" in asked:
        parameters["session_id"] = _text("session_id", asked["session_id"])
    if asked.get("metadata", True) is False:
        parameters["metadata"] = False
    return Edit(
        tensors=tuple(tensor for tensor in tensors if tensor is not None),
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
    region.check()
    return region


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
    if not 0 <= number <= 3:  # Triton takes any other number for the default, without a word
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
        raise InvalidRequest(f"{name}: is not valid Unicode: {error.reason}") from error
    return value


def _real(name: str, value: object) -> float:
    if isinstance(value, bool | str | bytes):
        raise InvalidRequest(f"{name}: must be a number, not {shown(value)}")
    try:
        return float(value)  # type: ignore[arg-type]  # numpy scalars and others with __float__
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"{name}: must be a number, not {shown(value)}") from error


def _whole(name: str, value: object, bits: int) -> int:
    """A whole number of at most `bits` bits and a sign."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # refuses what is none
    except TypeError as error:
        raise InvalidRequest(f"{name}: must be a whole number, not {shown(value)}") from error
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


def _loop_tensor(name: str, value: object) -> Tensor | None:
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name}: must be True or False, not {shown(value)}")
    return Tensor(name, "BOOL", np.array([[True]])) if value else None


def _loudness_tensor(name: str, value: object) -> Tensor | None:
    if value == "none":
        return None
    if value != "source":
        try:
            level = _real(name, float(value) if isinstance(value, str) else value)
        except ValueError as error:
            raise InvalidRequest(
                f"{name}: must be 'source', 'none' or a number of LUFS such as -14, "
                f"not {shown(value)}"
            ) from error
        value = f"{level:.9g}"
    return _text_tensor(name, value)


_EDIT = EditOptions.__annotations__.keys()
_GENERATE = {"prompt"} | GenerateOptions.__annotations__.keys()

# Input by input, how its value becomes a tensor; None: the server's default, which is not sent, so
# that a server without the input serves as well. Audio, encoding and seed are added later.
_ENCODERS: dict[str, Callable[[str, object], Tensor | None]] = {
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
    "start": _real_tensor,
    "end": _real_tensor,
    "loop": _loop_tensor,
    "loudness": _loudness_tensor,
    "duration": _real_tensor,
}


def _as_bytes(values: Array) -> bytes:
    value = values.reshape(-1)[0]
    return value.encode() if isinstance(value, str) else bytes(value)


def _info(values: Array | None) -> dict[str, Any]:
    info = {} if values is None else json.loads(_as_bytes(values))
    if not isinstance(info, dict):
        raise TypeError("info is no JSON object")
    return info
