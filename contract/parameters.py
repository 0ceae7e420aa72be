"""The table of parameters: one row each. Readers, forms, help and documents are made from it.

Sentences may name limits in braces: `{min_seconds:g}` is the server's, or its default.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .limits import MOST_SECONDS
from .parameter import Parameter

SEEDS = 2**31  # seeds are 0 to SEEDS - 1
FLOWSTEP = 0.12
MOST_PREVIEWS = 16
QUIETEST = -70.0  # LUFS: ITU-R BS.1770 treats anything below as silence

_TABLE = (
    Parameter(
        name="audio",
        sentence="the audio file, WAV or FLAC, as raw bytes or base64",
        section="audio-that-goes-in",
        wire="BYTES",
        scope="edit",
        default_words="none (text-to-music)",
    ),
    Parameter(
        name="encoding",
        sentence="encoding of `audio`, in the request and in the result",
        wire="BYTES",
        choices={"raw": "", "base64": ""},
        default_words="detected: `raw` if `audio` begins with `RIFF`, `RF64` or `fLaC`, otherwise "
        "`base64`; without `audio` `base64`",
    ),
    Parameter(
        name="variation",
        sentence="a name from `melodyflow variations`, or `custom` with a prompt",
        group="target",
        default_words="none",
        example="strings_quartet",
    ),
    Parameter(
        name="prompt",
        sentence="what it should become, in words",
        note="not just white space",
        wire="BYTES",
        group="target",
        lowest=1,
        highest="max_prompt_characters",
        default_words="needed",
        client_default="the variation's",
        at_gateway="custom_prompt",
        example="808 bass",
    ),
    Parameter(
        name="source_prompt",
        sentence="what the clip sounds like now, in words; conditions the inversion",
        wire="BYTES",
        scope="edit",
        group="inversion",
        lowest=0,
        highest="max_prompt_characters",
        default="",
        default_words="empty",
    ),
    Parameter(
        name="flowstep",
        sentence="0 = most change, towards 1 = the source is kept",
        note="where the inversion stops",
        wire="FP32",
        scope="edit",
        group="distance",
        lowest=0,
        highest=1,
        below=True,
        allowed_words="0 <= flowstep < 1 is allowed; 0 changes most",
        default=FLOWSTEP,
    ),
    Parameter(
        name="strength",
        sentence="1 - flowstep, so 1 = most change; give one or the other",
        own_kind="number",
        scope="edit",
        group="distance",
        lowest=0,
        highest=1,
        above=True,
        default=round(1 - FLOWSTEP, 7),
        excludes=("flowstep",),
        because="is 1 - flowstep; give one of the two, not both",
    ),
    Parameter(
        name="steps",
        sentence="solver steps in each of the two solves; more are slower and more accurate",
        note="even with `midpoint`",
        wire="INT32",
        group="solve",
        lowest=1,
        highest=128,
        default={"euler": 25, "midpoint": 64},
    ),
    Parameter(
        name="solver",
        sentence="the ODE solver; a variation's steps belong to its own solver",
        wire="BYTES",
        group="solve",
        choices={"euler": "", "midpoint": ""},
        default="euler",
        music_default="midpoint",
    ),
    Parameter(
        name="guidance",
        sentence="how strongly to follow the prompt (classifier-free guidance)",
        wire="FP32",
        group="solve",
        lowest=0,
        highest=10,
        default_words="the checkpoint's; 4.0 for the released one",
    ),
    Parameter(
        name="regularize_iters",
        sentence="R, inner iterations of the regularised inversion",
        note="0 with `midpoint`",
        wire="INT32",
        scope="edit",
        group="inversion",
        lowest=0,
        highest=8,
        without=1,  # R = K = 1 would divide 0 by 0, and there is no other K for R = 1
        range_words="0 (none) or 2 to 8",
        default={"euler": 2, "midpoint": 0},
    ),
    Parameter(
        name="keep_last_k_iters",
        sentence="K, how many of the last iterations are averaged",
        wire="INT32",
        scope="edit",
        group="inversion",
        lowest=0,
        highest=8,
        range_words="1 to R; 0 where R is 0",
        default={"euler": 1, "midpoint": 0},
        default_words="1 where R > 0, else 0",
    ),
    Parameter(
        name="lambda_kl",
        sentence="weight of the regularisation",
        wire="FP32",
        scope="edit",
        group="inversion",
        lowest=0,
        highest=1,
        default=0.2,
    ),
    Parameter(
        name="seed",
        sentence="seeds all the noise; the same seed makes the same take again",
        wire="INT64",
        group="solve",
        lowest=-1,
        highest=SEEDS - 1,
        range_words=f"0 to {SEEDS - 1}; -1: random",
        default_words="random; the result names it",
        client_default="the last one used for the clip, else random",
    ),
    Parameter(
        name="new_take",
        sentence="draws a new seed for a clip that has one",
        own_kind="switch",
        scope="edit",
        group="take",
        default=False,
        excludes=("seed",),
        because="draws a new seed; give it or a seed, not both",
    ),
    Parameter(
        name="format",
        sentence="the result's file format",
        wire="BYTES",
        group="result",
        choices={"wav": "PCM 16", "wav24": "PCM 24", "wav32f": "float 32", "flac": "24 bit"},
        default="wav",
    ),
    Parameter(
        name="sample_rate",
        sentence="the result's sample rate",
        note="`flac` above 65535 Hz takes multiples of 10 only",
        wire="INT32",
        group="result",
        lowest="min_sample_rate",
        highest="max_sample_rate",
        unit="Hz",
        default_words="the input's own; text-to-music the checkpoint's",
    ),
    Parameter(
        name="start",
        sentence="edit only from here on; every sample before it stays",
        section="a-region",
        wire="FP32",
        scope="edit",
        group="part",
        lowest=0,
        highest=MOST_SECONDS,
        unit="s",
        range_words="seconds from the clip's start",
        allowed_words="give seconds from the clip's start, 0 or more",
        default_words="the clip's start",
        example=2.5,
    ),
    Parameter(
        name="end",
        sentence="edit only up to here; every sample after it stays",
        note="at least {min_seconds:g} s after `start`",
        wire="FP32",
        scope="edit",
        group="part",
        lowest=0,
        highest=MOST_SECONDS,
        unit="s",
        range_words="seconds from the clip's start",
        allowed_words="give seconds from the clip's start, 0 or more",
        default_words="the clip's end",
        example=5,
    ),
    Parameter(
        name="loop",
        sentence="for a clip that is a loop: the result repeats seamlessly; not with a region",
        section="loops",
        wire="BOOL",
        scope="edit",
        group="part",
        default=False,
        excludes=("start", "end"),
        because="is for the whole clip; give it or a region, not both",
        not_with="a region (start, end)",
    ),
    Parameter(
        name="loudness",
        sentence="the result's loudness; its peak stays at or below -1 dBTP",
        section="levels",
        wire="BYTES",
        group="result",
        lowest=QUIETEST,
        highest=0,
        choices={"none": "as the model makes it", "source": "as loud as the clip"},
        unit="LUFS",
        range_words=f"`none` (as the model makes it), `source` (as loud as the clip) or a number "
        f"of LUFS from {QUIETEST:g} to 0",
        allowed_words=f"none, source or a number of LUFS from {QUIETEST:g} to 0 is allowed",
        default="none",
        client_default="`source`; text-to-music `none`",
        example=-14,
    ),
    Parameter(
        name="duration",
        sentence="length of text-to-music, which has no clip",
        section="text-to-music",
        wire="FP32",
        scope="music",
        group="music",
        lowest="min_seconds",
        highest="max_seconds",
        unit="s",
        default_words="none (an edit)",
        excludes=("audio",),
        because="is for text-to-music; an edit is as long as its clip",
        not_with="audio: an edit is as long as its source",
        example=10,
    ),
    Parameter(
        name="previews",
        sentence="the most previews of the result to send while it forms",
        note="0 with `stream` false",
        section="previews",
        wire="INT32",
        group="previews",
        lowest=0,
        highest=MOST_PREVIEWS,
        default=0,
    ),
    Parameter(
        name="stream",
        sentence="`false`: no progress and a single response, which HTTP `/generate` needs",
        wire="BOOL",
        default=True,
    ),
    Parameter(
        name="timeout_s",
        sentence="deadline in seconds, a number above 0. The clock starts when the model first "
        "sees the request, so time in Triton's queue doesn't count",
        own_kind="number",
        allowed_words="a number of seconds above 0",
        default_words="none",
    ),
    Parameter(
        name="session_id",
        sentence="a name for the server's log, cut to 200 characters",
        group="request",
        default="",
        default_words="empty",
    ),
    Parameter(
        name="metadata",
        sentence="`false` leaves everything about the edit out of the file",
        own_kind="switch",
        group="result",
        default=True,
    ),
    Parameter(
        name="owner",
        sentence="whose edit it is; owners share the server evenly, however many edits each has. "
        "The gateway names its client here",
        lowest=0,
        highest=64,
        default="",
        default_words="empty: the owner of all edits that name none",
    ),
    Parameter(
        name="traceparent",
        sentence="the W3C trace context that the edit's spans belong to; gRPC metadata of that "
        "name count, too. One that isn't valid is ignored",
        default="",
        default_words="empty: a trace of its own",
    ),
    Parameter(
        name="priority",
        sentence="1 overtakes 2 in the queue, and 2 overtakes 3",
        own_kind="whole",
        group="request",
        lowest=1,
        highest=3,
        default=2,
        client_default="2; sweeps and takes 3",
    ),
    Parameter(
        name="timeout",
        sentence="for the whole edit, including the queue and server restarts",
        own_kind="number",
        group="request",
        lowest=0,
        above=True,
        unit="s",
        range_words="seconds above 0",
        default_words="none",
        at_gateway="timeout_s",
    ),
)

PARAMETERS: Mapping[str, Parameter] = {row.name: row for row in _TABLE}
# What Triton takes as tensors, in the order of config.pbtxt, and what goes beside them.
INPUTS: Mapping[str, Parameter] = {row.name: row for row in _TABLE if row.wire}
REQUEST = ("timeout_s", "session_id", "metadata", "owner", "traceparent")
TRITONS_OWN = ("id", "priority", "timeout")  # and triton_*
# What clients offer.
OPTIONS: Mapping[str, Parameter] = {row.name: row for row in _TABLE if row.group}

# What belongs to a solver: another one has defaults of its own.
SOLVER_BOUND = ("steps", "regularize_iters", "keep_last_k_iters", "lambda_kl")
# What a variation can set. Without R there is no K.
PRESET_SETTINGS: Mapping[str, Parameter] = {
    name: PARAMETERS[name]
    for name in (
        "flowstep",
        "solver",
        "steps",
        "regularize_iters",
        "keep_last_k_iters",
        "lambda_kl",
    )
} | {"keep_last_k_iters": replace(PARAMETERS["keep_last_k_iters"], lowest=1)}


def default_of(name: str, *, solver: str = "euler", music: bool = False) -> Any:
    """A parameter's default; None if only the request can tell."""
    row = PARAMETERS[name]
    if music and row.music_default is not None:
        return row.music_default
    return row.default[solver] if isinstance(row.default, dict) else row.default
