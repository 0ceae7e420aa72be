"""Request tensors and parameters -> an edit's request (the tensor contract, docs/contract.md)."""

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from melodyflow import audio
from melodyflow.audio import AudioError
from melodyflow.contract import (
    DEFAULT_LIMITS,
    INPUTS,
    PARAMETERS,
    REQUEST,
    TRITONS_OWN,
    Parameter,
    default_of,
    draw_seed,
    exclusion,
)
from melodyflow.edit import Parameters
from melodyflow.engine import Code, EditError
from melodyflow.serving.settings import Settings

Tensors = Mapping[str, np.ndarray[Any, Any]]  # of one element each, by the input's name
Limits = Mapping[str, float]

SHOWN = 80  # characters of a client's text that an error quotes or compares, at most
KNOWN = (*INPUTS, *REQUEST)  # names that a request may have
# Inputs that say what an edit does, named as its parameters.
EDIT = [INPUTS[field.name] for field in dataclasses.fields(Parameters) if field.name in INPUTS]


def invalid(name: str, value: object, allowed: str) -> EditError:
    """The error of a bad input: its name, its value and what is allowed."""
    shown = value[: SHOWN + 1] if isinstance(value, str | bytes) else value
    return EditError(Code.INVALID_ARG, f"{_cut(name)}: {_cut(repr(shown))}; {allowed}")


def _cut(text: str) -> str:
    """The beginning of a client's text, in one line. It is cut before anything is made of it: it
    can be as large as a request."""
    beginning = text[: SHOWN + 1]
    shown = beginning if beginning.isprintable() else repr(beginning)
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."


@dataclass(frozen=True)
class EditRequest:
    """A valid request. The audio has been unwrapped but not decoded yet."""

    audio: bytes | None  # WAV or FLAC; None: text-to-music
    encoding: str  # of `audio`, both ways: raw or base64
    parameters: Parameters
    format: str
    loudness: str | None  # "source", a number of LUFS, or None: as it comes
    sample_rate: int | None  # Hz of the result; None: the input's own, or the checkpoint's
    stream: bool
    timeout_s: float | None
    session_id: str
    metadata: bool


def read_request(
    tensors: Tensors,
    parameters: Mapping[str, Any],
    *,
    settings: Settings,
    limits: audio.Limits,
    max_seconds: float,
    guidance: float,
) -> EditRequest:
    """Checks a request. `tensors` holds the inputs that were sent; `max_seconds`: of the longest
    result; `guidance` is the checkpoint's. Raises EditError."""
    timeout_s, session_id, metadata = _read_parameters(parameters)
    bounds = {name: getattr(settings, name) for name in DEFAULT_LIMITS}
    read = _Reader(tensors, bounds | {"max_seconds": max_seconds})
    prompt, duration = read.needed("prompt"), read.get("duration")
    _check_exclusions(read)
    file, encoding = _read_audio(read, limits, needed=duration is None)
    format, sample_rate = read.get("format"), read.get("sample_rate")
    edit = _read_edit(read, prompt, guidance, music=duration is not None)
    return EditRequest(
        audio=file,
        encoding=encoding,
        parameters=edit,
        format=format,
        loudness=_read_loudness(read, has_source=duration is None),
        sample_rate=sample_rate,
        stream=read.get("stream"),
        timeout_s=timeout_s,
        session_id=session_id,
        metadata=metadata,
    )


def _check_exclusions(read: "_Reader") -> None:
    refused = exclusion({name: read.plain(name) for name in INPUTS})
    if refused is not None:
        word = "false" if refused.kind == "switch" else "not"
        value = read.get(refused.name)
        raise invalid(refused.name, value, f"{word} with {refused.not_with}")


def _read_edit(read: "_Reader", prompt: str, guidance: float, *, music: bool) -> Parameters:
    if music:
        for row in EDIT:
            value = read.plain(row.name)
            if row.scope == "edit" and value is not None and value is not False:
                allowed = "not with duration: text-to-music has no source"
                raise invalid(row.name, value, allowed)
    solver = read.get("solver", music=music)
    values = {
        row.name: read.get(row.name, solver=solver, music=music)
        for row in EDIT
        if row.is_for("music" if music else "edit")
    }
    if values["guidance"] is None:
        values["guidance"] = guidance
    if values["seed"] in (None, -1):
        values["seed"] = draw_seed()
    if solver == "midpoint" and values["steps"] % 2:
        raise invalid("steps", values["steps"], "an even number with the solver midpoint")
    if music:
        return Parameters(**values, flowstep=0.0, regularize_iters=0, keep_last_k_iters=0)
    if read.value("keep_last_k_iters") is None and not values["regularize_iters"]:
        values["keep_last_k_iters"] = 0
    _check_inversion(solver, values["regularize_iters"], values["keep_last_k_iters"])
    start, end = values["start"], values["end"]
    if start is not None and end is not None and start >= end:
        raise invalid("start", start, f"less than end ({end:g}) is allowed")
    return Parameters(**values)


def _check_inversion(solver: str, regularize: int, keep: int) -> None:
    if regularize and solver != "euler":
        raise invalid("regularize_iters", regularize, "0 with the solver midpoint")
    if regularize and not 1 <= keep <= regularize:
        raise invalid(
            "keep_last_k_iters", keep, f"1 to regularize_iters ({regularize}) are allowed"
        )
    if keep and not regularize:
        raise invalid("keep_last_k_iters", keep, "0 where regularize_iters is 0")


def _read_loudness(read: "_Reader", *, has_source: bool) -> str | None:
    value = read.bytes("loudness")
    row = INPUTS["loudness"]
    text: str = row.default if value is None else value.decode(errors="replace")
    if text == "source" and not has_source:
        raise invalid("loudness", text, "not with duration: text-to-music has no source")
    if text in row.choices:
        return None if text == "none" else text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not row.holds(number):
        raise invalid("loudness", text, row.allowed())
    return text


class _Reader:
    """Single values out of tensors of one element, each held to its range."""

    def __init__(self, tensors: Tensors, limits: Limits) -> None:
        self._tensors, self._limits = tensors, limits

    def value(self, name: str) -> Any:
        """The one element of an input, None where it was not sent."""
        tensor = self._tensors.get(name)
        if tensor is None:
            return None
        if tensor.size != 1:
            raise invalid(name, list(tensor.shape), "one element is allowed")
        return tensor.reshape(-1)[0]

    def plain(self, name: str) -> Any:
        """The one element of an input as it is to be shown."""
        value = self.value(name)
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return value.item() if isinstance(value, np.generic) else value

    def bytes(self, name: str) -> bytes | None:
        value = self.value(name)
        return value.encode() if isinstance(value, str) else value

    def needed(self, name: str) -> Any:
        """The value of an input that must be there."""
        if self.value(name) is None:
            allowed = INPUTS[name].allowed(self._limits)
            raise EditError(Code.INVALID_ARG, f"{name}: missing; {allowed}")
        return self.get(name)

    def get(self, name: str, *, solver: str = "euler", music: bool = False) -> Any:
        """The value of an input, in its range; its default where it was not sent."""
        row, value = INPUTS[name], self.value(name)
        if value is None:
            return default_of(name, solver=solver, music=music)
        if row.kind == "switch":
            return bool(value)
        if row.kind == "choice":
            return self._choice(row)
        if row.kind == "text":
            return self._text(row)
        # The number that was meant: 0.12 sent as FP32 is 0.11999999731779099 here.
        meant = int(value) if row.kind == "whole" else float(str(value))
        if meant == row.without:
            raise invalid(name, meant, f"{row.range(self._limits)} are allowed")
        if not row.holds(meant, self._limits):
            raise invalid(name, meant, row.allowed(self._limits))
        return meant

    def _choice(self, row: Parameter) -> str:
        text = (self.bytes(row.name) or b"").decode(errors="replace")
        if text not in row.choices:
            raise invalid(row.name, text, row.allowed())
        return text

    def _text(self, row: Parameter) -> str:
        value, allowed = self.bytes(row.name) or b"", row.allowed(self._limits)
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise invalid(row.name, value, allowed) from None
        if not row.holds(len(text), self._limits):
            raise EditError(Code.INVALID_ARG, f"{row.name}: {len(text)} characters; {allowed}")
        if row.lowest and not text.strip():
            raise invalid(row.name, text, "white space alone says nothing")
        return text


def _read_audio(read: _Reader, limits: audio.Limits, *, needed: bool) -> tuple[bytes | None, str]:
    """The file and its encoding; that of the result where no file is needed."""
    payload, given = read.bytes("audio"), read.bytes("encoding")
    encoding = None if given is None else given.decode(errors="replace")[:80]
    if payload is None and needed:
        raise EditError(
            Code.INVALID_ARG,
            "audio: missing; a WAV or FLAC file, or a duration for text-to-music, is needed",
        )
    try:
        if payload is None:
            return None, audio.check_encoding(encoding or "base64")
        return audio.unwrap(payload, encoding, limits)
    except AudioError as error:
        raise EditError(Code.INVALID_ARG, str(error)) from None


def _read_parameters(parameters: Mapping[str, Any]) -> tuple[float | None, str, bool]:
    for name, value in parameters.items():
        if name in REQUEST or name in TRITONS_OWN or name.startswith("triton_"):
            continue
        near = difflib.get_close_matches(name[:SHOWN], KNOWN, 1)
        hint = f"is {near[0]} meant?" if near else f"there are {', '.join(KNOWN)}"
        raise invalid(name, value, f"no such input or parameter; {hint}")
    return (
        _timeout(parameters.get("timeout_s")),
        str(parameters.get("session_id", default_of("session_id")))[:200],
        _metadata(parameters.get("metadata", default_of("metadata"))),
    )


def _timeout(value: Any) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(value, bool) or not (math.isfinite(seconds) and seconds > 0):
        raise invalid("timeout_s", value, PARAMETERS["timeout_s"].allowed())
    return seconds


def _metadata(value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise invalid("metadata", value, PARAMETERS["metadata"].allowed())
    return str(value).lower() == "true"


def request_parameters(text: str) -> dict[str, Any]:
    """Triton's JSON of a request's parameters as a dict."""
    parameters: dict[str, Any] = json.loads(text) if text else {}
    return parameters
