"""Reads a request's tensors and parameters (the tensor contract, docs/contract.md)."""

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from melodyflow import audio
from melodyflow.contract import (
    DEFAULT_LIMITS,
    INPUTS,
    PARAMETERS,
    REQUEST,
    TRITONS_OWN,
    Parameter,
    complete,
    default_of,
    draw_seed,
    exclusion,
)
from melodyflow.edit import Parameters
from melodyflow.errors import AudioError, Code, EditError
from melodyflow.serving.encoding import check_encoding, unwrap
from melodyflow.serving.settings import Settings

Tensors = Mapping[str, np.ndarray[Any, Any]]  # of one element each, by the input's name
Limits = Mapping[str, float]

SHOWN = 80  # the most characters of a client's text that an error quotes or compares
KNOWN = (*INPUTS, *REQUEST)  # the names a request may contain
# Inputs with the same names as an edit's parameters.
EDIT = [INPUTS[field.name] for field in dataclasses.fields(Parameters) if field.name in INPUTS]


def invalid(name: str, value: object, allowed: str) -> EditError:
    """The error for a bad input: its name, its value and what is allowed."""
    shown = value[: SHOWN + 1] if isinstance(value, str | bytes) else value
    return EditError(Code.INVALID_ARG, f"{_cut(name)}: {_cut(repr(shown))}; {allowed}")


def _cut(text: str) -> str:
    """The start of a client's text, on one line. It is cut first, because it can be as large as a
    request."""
    beginning = text[: SHOWN + 1]
    shown = beginning if beginning.isprintable() else repr(beginning)
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."


@dataclass(frozen=True)
class EditRequest:
    """A valid request. The audio is unwrapped but not yet decoded."""

    audio: bytes | None  # WAV or FLAC; None: text-to-music
    encoding: str  # of `audio` in request and response: raw or base64
    parameters: Parameters
    format: str
    loudness: str | None  # "source", a number of LUFS, or None: unchanged
    sample_rate: int | None  # Hz of the result; None: the input's own, or the checkpoint's
    stream: bool
    previews: int
    timeout_s: float | None
    session_id: str
    metadata: bool
    owner: str


def read_request(
    tensors: Tensors,
    parameters: Mapping[str, Any],
    *,
    settings: Settings,
    limits: audio.Limits,
    max_seconds: float,
    guidance: float,
) -> EditRequest:
    """Checks a request. `tensors`: the inputs that were sent; `max_seconds`: the longest result;
    `guidance`: the checkpoint's default. Raises EditError."""
    timeout_s, session_id, metadata, owner = _read_parameters(parameters)
    bounds = {name: getattr(settings, name) for name in DEFAULT_LIMITS}
    read = _Reader(tensors, bounds | {"max_seconds": max_seconds})
    if read.value("prompt") is None:
        allowed = INPUTS["prompt"].allowed(bounds)
        raise EditError(Code.INVALID_ARG, f"prompt: missing; {allowed}")
    sent = {name: read.get(name) for name in INPUTS if name not in ("audio", "encoding")}
    music = sent["duration"] is not None
    _check_together({**sent, "audio": read.value("audio")}, music=music)
    values = complete(sent)
    file, encoding = _read_audio(read, limits, needed=not music)
    return EditRequest(
        audio=file,
        encoding=encoding,
        parameters=_edit(values, guidance, music=music),
        format=values["format"],
        loudness=None if values["loudness"] == "none" else values["loudness"],
        sample_rate=values["sample_rate"],
        stream=sent["stream"] is not False,
        previews=sent["previews"] or 0,
        timeout_s=timeout_s,
        session_id=session_id,
        metadata=metadata,
        owner=owner,
    )


def _check_together(sent: Mapping[str, Any], *, music: bool) -> None:
    """Checks that values which are valid on their own can be combined."""
    refused = exclusion(sent)
    if refused is not None:
        rule = "must be false" if refused.kind == "switch" else "not allowed"
        raise invalid(refused.name, sent[refused.name], f"{rule} with {refused.not_with}")
    if sent["previews"] and sent["stream"] is False:
        raise invalid("previews", sent["previews"], "must be 0 with stream false: one response")
    if not music:
        return
    for row in EDIT:
        value = sent[row.name]
        if row.scope == "edit" and value is not None and value is not False:
            raise invalid(row.name, value, "not allowed with duration: text-to-music has no source")
    if sent["loudness"] == "source":
        raise invalid(
            "loudness", "source", "not allowed with duration: text-to-music has no source"
        )


def _edit(values: Mapping[str, Any], guidance: float, *, music: bool) -> Parameters:
    """The edit's parameters, from the inputs and their defaults."""
    edit = {row.name: values[row.name] for row in EDIT if row.name in values}
    if edit["guidance"] is None:
        edit["guidance"] = guidance
    if edit["seed"] in (None, -1):
        edit["seed"] = draw_seed()
    if edit["solver"] == "midpoint" and edit["steps"] % 2:
        raise invalid("steps", edit["steps"], "must be even with solver midpoint")
    if music:
        return Parameters(**edit, flowstep=0.0, regularize_iters=0, keep_last_k_iters=0)
    _check_inversion(edit["solver"], edit["regularize_iters"], edit["keep_last_k_iters"])
    start, end = edit["start"], edit["end"]
    if start is not None and end is not None and start >= end:
        raise invalid("start", start, f"must be less than end ({end:g})")
    return Parameters(**edit)


def _check_inversion(solver: str, regularize: int, keep: int) -> None:
    if regularize and solver != "euler":
        raise invalid("regularize_iters", regularize, "must be 0 with solver midpoint")
    if regularize and not 1 <= keep <= regularize:
        raise invalid(
            "keep_last_k_iters", keep, f"must be from 1 to regularize_iters ({regularize})"
        )
    if keep and not regularize:
        raise invalid("keep_last_k_iters", keep, "must be 0 if regularize_iters is 0")


class _Reader:
    """Reads values from tensors of one element and checks their ranges."""

    def __init__(self, tensors: Tensors, limits: Limits) -> None:
        self._tensors, self._limits = tensors, limits

    def value(self, name: str) -> Any:
        """The one element of an input; None if it was not sent."""
        tensor = self._tensors.get(name)
        if tensor is None:
            return None
        if tensor.size != 1:
            raise invalid(name, list(tensor.shape), "must have one element")
        return tensor.reshape(-1)[0]

    def bytes(self, name: str) -> bytes | None:
        value = self.value(name)
        return value.encode() if isinstance(value, str) else value

    def get(self, name: str) -> Any:
        """The value of an input, within its range; None if it was not sent."""
        row, value = INPUTS[name], self.value(name)
        if value is None:
            return None
        if row.kind == "switch":
            return bool(value)
        if row.kind == "text" and not row.choices:
            return self._text(row)
        if row.kind in ("text", "choice"):
            return self._word(row)
        # The number the client meant: 0.12 sent as FP32 is 0.11999999731779099 here.
        meant = int(value) if row.kind == "whole" else float(str(value))
        if meant == row.without:
            raise invalid(name, meant, f"{row.range(self._limits)} are allowed")
        if not row.holds(meant, self._limits):
            raise invalid(name, meant, row.allowed(self._limits))
        return meant

    def _word(self, row: Parameter) -> str:
        """One of its choices, or a number as text if that is allowed too."""
        text = (self.bytes(row.name) or b"").decode(errors="replace")
        if text in row.choices:
            return text
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if row.kind == "choice" or not row.holds(number):
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
            raise invalid(row.name, text, "must contain more than whitespace")
        return text


def _read_audio(read: _Reader, limits: audio.Limits, *, needed: bool) -> tuple[bytes | None, str]:
    """The file and its encoding. Without a file, the encoding is the result's."""
    payload, given = read.bytes("audio"), read.bytes("encoding")
    encoding = None if given is None else given.decode(errors="replace")[:80]
    if payload is None and needed:
        raise EditError(
            Code.INVALID_ARG,
            "audio: missing; send a WAV or FLAC file, or a duration for text-to-music",
        )
    try:
        if payload is None:
            return None, check_encoding(encoding or "base64")
        return unwrap(payload, encoding, limits)
    except AudioError as error:
        raise EditError(Code.INVALID_ARG, str(error)) from None


def _read_parameters(parameters: Mapping[str, Any]) -> tuple[float | None, str, bool, str]:
    for name, value in parameters.items():
        if name in REQUEST or name in TRITONS_OWN or name.startswith("triton_"):
            continue
        near = difflib.get_close_matches(name[:SHOWN], KNOWN, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(KNOWN)}"
        raise invalid(name, value, f"no such input or parameter; {hint}")
    return (
        _timeout(parameters.get("timeout_s")),
        str(parameters.get("session_id", default_of("session_id")))[:200],
        _metadata(parameters.get("metadata", default_of("metadata"))),
        _owner(parameters.get("owner", default_of("owner"))),
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


def _owner(value: Any) -> str:
    owner = PARAMETERS["owner"]
    if not (isinstance(value, str) and owner.holds(len(value))):
        raise invalid("owner", value, owner.allowed())
    return value


def request_parameters(text: str) -> dict[str, Any]:
    """A request's parameters, parsed from Triton's JSON."""
    parameters: dict[str, Any] = json.loads(text) if text else {}
    return parameters
