"""Request tensors and parameters -> an edit's request (the tensor contract, docs/contract.md)."""

import difflib
import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from melodyflow import audio
from melodyflow.audio import AudioError
from melodyflow.edit import Parameters, Solver
from melodyflow.engine import Code, EditError
from melodyflow.serving.settings import MOST_SECONDS, Settings

Tensors = Mapping[str, np.ndarray[Any, Any]]  # of one element each, by the input's name

SEEDS = 2**31
MOST_KEPT = math.nextafter(1, 0)  # the largest flowstep
SHOWN = 80  # characters of a client's text that an error quotes or compares, at most
QUIETEST = -70.0  # LUFS: what is below is silence to BS.1770
INPUTS = (
    "audio",
    "encoding",
    "prompt",
    "source_prompt",
    "flowstep",
    "steps",
    "solver",
    "guidance",
    "regularize_iters",
    "keep_last_k_iters",
    "lambda_kl",
    "seed",
    "format",
    "sample_rate",
    "start",
    "end",
    "loop",
    "loudness",
    "duration",
    "stream",
)
# What needs a source, and so has no meaning for text-to-music.
EDITS_ALONE = (
    "source_prompt",
    "flowstep",
    "regularize_iters",
    "keep_last_k_iters",
    "lambda_kl",
    "start",
    "end",
    "loop",
)
PARAMETERS = ("timeout_s", "session_id", "metadata")
TRITONS_OWN = ("id", "priority", "timeout")  # and triton_*


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
    read = _Reader(tensors)
    prompt = read.text("prompt", None, 1, settings.max_prompt_characters)
    duration = _read_duration(read, limits.min_seconds, max_seconds)
    file, encoding = _read_audio(read, limits, needed=duration is None)
    format = read.choice("format", audio.FORMATS, "wav")
    sample_rate = (
        read.integer("sample_rate", 0, limits.min_sample_rate, limits.max_sample_rate) or None
    )
    return EditRequest(
        audio=file,
        encoding=encoding,
        parameters=_read_edit(read, prompt, guidance, settings)
        if duration is None
        else _read_generation(read, prompt, guidance, duration),
        format=format,
        loudness=_read_loudness(read, has_source=duration is None),
        sample_rate=sample_rate,
        stream=read.flag("stream", True),
        timeout_s=timeout_s,
        session_id=session_id,
        metadata=metadata,
    )


def _read_edit(read: "_Reader", prompt: str, guidance: float, settings: Settings) -> Parameters:
    solver, steps = _read_solver(read, "euler")
    euler = solver == "euler"
    regularize = read.integer("regularize_iters", 2 if euler else 0, 0, 8)
    if regularize and not euler:
        raise invalid("regularize_iters", regularize, "0 with the solver midpoint")
    if regularize == 1:
        # R = K = 1 would divide 0 by 0, and there is no other K for R = 1.
        raise invalid("regularize_iters", 1, "0 or 2 to 8 are allowed")
    keep = read.integer("keep_last_k_iters", 1 if regularize else 0, 0, 8)
    if regularize and not 1 <= keep <= regularize:
        raise invalid(
            "keep_last_k_iters",
            keep,
            f"1 to regularize_iters ({regularize}) are allowed",
        )
    if keep and not regularize:
        raise invalid("keep_last_k_iters", keep, "0 where regularize_iters is 0")
    flowstep = read.number(
        "flowstep", 0.12, 0, MOST_KEPT, "0 <= flowstep < 1 is allowed; 0 changes most"
    )
    start, end, loop = read.seconds("start"), read.seconds("end"), read.flag("loop", False)
    if loop and (start is not None or end is not None):
        raise invalid("loop", True, "false with a region (start, end)")
    if start is not None and end is not None and start >= end:
        raise invalid("start", start, f"less than end ({end:g}) is allowed")
    return Parameters(
        prompt=prompt,
        seed=_read_seed(read),
        source_prompt=read.text("source_prompt", "", 0, settings.max_prompt_characters),
        flowstep=flowstep,
        steps=steps,
        solver=solver,
        guidance=read.number("guidance", guidance, 0, 10),
        regularize_iters=regularize,
        keep_last_k_iters=keep,
        lambda_kl=read.number("lambda_kl", 0.2, 0, 1),
        start=start,
        end=end,
        loop=loop,
    )


def _read_generation(read: "_Reader", prompt: str, guidance: float, duration: float) -> Parameters:
    """Text-to-music: from noise, flowstep 0, up to music."""
    for name in EDITS_ALONE:
        if read.value(name) is not None and not (name == "loop" and not read.flag(name, False)):
            raise invalid(name, read.plain(name), "not with duration: text-to-music has no source")
    solver, steps = _read_solver(read, "midpoint")
    return Parameters(
        prompt=prompt,
        seed=_read_seed(read),
        flowstep=0.0,
        steps=steps,
        solver=solver,
        guidance=read.number("guidance", guidance, 0, 10),
        regularize_iters=0,
        keep_last_k_iters=0,
        duration=duration,
    )


def _read_loudness(read: "_Reader", *, has_source: bool) -> str | None:
    value = read.bytes("loudness")
    text = "none" if value is None else value.decode(errors="replace")
    if text == "source" and not has_source:
        raise invalid("loudness", text, "not with duration: text-to-music has no source")
    if text in ("none", "source"):
        return None if text == "none" else text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not QUIETEST <= number <= 0:
        raise invalid(
            "loudness", text, f"none, source or a number from {QUIETEST:g} to 0 (LUFS) is allowed"
        )
    return text


def _read_solver(read: "_Reader", default: Solver) -> tuple[Solver, int]:
    """The solver and its steps."""
    euler = read.choice("solver", ("euler", "midpoint"), default) == "euler"
    steps = read.integer("steps", 25 if euler else 64, 1, 128)
    if not euler and steps % 2:
        raise invalid("steps", steps, "an even number with the solver midpoint")
    return "euler" if euler else "midpoint", steps


def _read_seed(read: "_Reader") -> int:
    seed = read.integer("seed", -1, -1, SEEDS - 1)
    return secrets.randbelow(SEEDS) if seed == -1 else seed


class _Reader:
    """Single values out of tensors of one element, each held to its range."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

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

    def text(self, name: str, default: str | None, shortest: int, longest: int) -> str:
        value = self.bytes(name)
        allowed = f"{shortest} to {longest} characters of UTF-8 are allowed"
        if value is None:
            if default is None:
                raise EditError(Code.INVALID_ARG, f"{name}: missing; {allowed}")
            return default
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise invalid(name, value, allowed) from None
        if not shortest <= len(text) <= longest:
            raise EditError(Code.INVALID_ARG, f"{name}: {len(text)} characters; {allowed}")
        if shortest and not text.strip():
            raise invalid(name, text, "white space alone says nothing")
        return text

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.bytes(name)
        text = default if value is None else value.decode(errors="replace")
        if text not in choices:
            raise invalid(name, text, f"{' or '.join(choices)} are allowed")
        return text

    def integer(self, name: str, default: int, lowest: int, highest: int) -> int:
        value = self.value(name)
        if value is None:
            return default
        if not lowest <= int(value) <= highest:
            raise invalid(name, int(value), f"{lowest} to {highest} are allowed")
        return int(value)

    def number(
        self, name: str, default: float, lowest: float, highest: float, allowed: str = ""
    ) -> float:
        value = self.value(name)
        if value is None:
            return default
        # The number that was meant: 0.12 sent as FP32 is 0.11999999731779099 here.
        meant = float(str(value))
        if not (math.isfinite(meant) and lowest <= meant <= highest):
            allowed = allowed or f"{lowest:g} to {highest:g} are allowed"
            raise invalid(name, meant, allowed)
        return meant

    def seconds(self, name: str) -> float | None:
        """A time in the clip; what it must be less than is known with the clip."""
        if self.value(name) is None:
            return None
        return self.number(name, 0, 0, MOST_SECONDS, "seconds from the clip's start are allowed")

    def flag(self, name: str, default: bool) -> bool:
        value = self.value(name)
        return default if value is None else bool(value)


def _read_duration(read: _Reader, shortest: float, longest: float) -> float | None:
    """Seconds of text-to-music; None: an edit."""
    if read.value("duration") is None:
        return None
    duration = read.number(
        "duration", 0, shortest, longest, f"{shortest:g} to {longest:g} s are allowed"
    )
    if read.value("audio") is not None:
        raise invalid("duration", duration, "not with audio: an edit is as long as its source")
    return duration


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
        if name in PARAMETERS or name in TRITONS_OWN or name.startswith("triton_"):
            continue
        near = difflib.get_close_matches(name[:SHOWN], INPUTS + PARAMETERS, 1)
        hint = f"is {near[0]} meant?" if near else f"there are {', '.join(INPUTS + PARAMETERS)}"
        raise invalid(name, value, f"no such input or parameter; {hint}")
    return (
        _timeout(parameters.get("timeout_s")),
        str(parameters.get("session_id", ""))[:200],
        _metadata(parameters.get("metadata", True)),
    )


def _timeout(value: Any) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(value, bool) or not (math.isfinite(seconds) and seconds > 0):
        raise invalid("timeout_s", value, "a number of seconds above 0")
    return seconds


def _metadata(value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise invalid("metadata", value, "true or false")
    return str(value).lower() == "true"


def request_parameters(text: str) -> dict[str, Any]:
    """Triton's JSON of a request's parameters as a dict."""
    parameters: dict[str, Any] = json.loads(text) if text else {}
    return parameters
