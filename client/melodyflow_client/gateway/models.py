"""What clients send and get, as typed models: they check requests and make the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from ..protocol import EditOptions, GenerateOptions

SESSION_ID = r"^[A-Za-z0-9_.:@+=~-]{1,128}$"
SEED_HEADER = "X-Melodyflow-Seed"

SessionId = Annotated[str, Field(pattern=SESSION_ID, examples=["test_session"])]
Base64Audio = Annotated[
    str,
    Field(
        description="An audio file in base64: WAV or FLAC (more where the gateway has PyAV).",
        json_schema_extra={"contentEncoding": "base64"},
    ),
]
SourceAudio = Annotated[
    Base64Audio | None,
    Field(
        description="An audio file in base64: WAV or FLAC (more where the gateway has PyAV). "
        "Needed unless there is a `duration`."
    ),
]
# The client and the server check it, and say what is allowed.
Loudness = Annotated[
    float | str,
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["none", "source"]},
                {"type": "number", "minimum": -70, "maximum": 0},
            ]
        }
    ),
]
_SWITCHES = ("new_take", "loop")  # where a truth value is expected


class EditFields(BaseModel):
    """What an edit can be asked for. Blank and null count as left out."""

    model_config = ConfigDict(allow_inf_nan=False)

    variation: Annotated[
        str | None,
        Field(
            max_length=200,
            description="A name of GET /variations, or `custom` with `custom_prompt`.",
            examples=["strings_quartet"],
        ),
    ] = None
    custom_prompt: Annotated[
        str | None,
        Field(
            max_length=1000,
            description="What it should become, 1 to 1000 characters; replaces the variation's "
            "own prompt.",
            examples=["808 bass"],
        ),
    ] = None
    flowstep: Annotated[
        float | None,
        Field(ge=0, lt=1, description="0 = most change, towards 1 = the source is kept."),
    ] = None
    strength: Annotated[
        float | None,
        Field(gt=0, le=1, description="1 - flowstep: 1 = most change. Give one of the two."),
    ] = None
    solver: Annotated[
        Literal["euler", "midpoint"] | None,
        Field(description="Another solver than the variation's has its own number of steps."),
    ] = None
    steps: Annotated[int | None, Field(ge=1, le=128, description="Solver steps.")] = None
    guidance: Annotated[
        float | None, Field(ge=0, le=10, description="How strongly the prompt is followed.")
    ] = None
    seed: Annotated[
        int | None,
        Field(
            ge=-1,
            le=2**31 - 1,
            description="Left out: the last one of this session and clip, else a random one. "
            "-1: a random one.",
        ),
    ] = None
    new_take: Annotated[bool | None, Field(description="Draws a new seed.")] = None
    session_id: Annotated[
        SessionId | None,
        Field(description="1 to 128 of A-Z, a-z, 0-9 and _.:@+=~-; generated where left out."),
    ] = None
    start: Annotated[
        float | None,
        Field(
            ge=0,
            description="Seconds: edit from here on only, every sample before it stays.",
            examples=[2.5],
        ),
    ] = None
    end: Annotated[
        float | None,
        Field(
            ge=0,
            description="Seconds: edit up to here only; at least 0.1 s after `start`.",
            examples=[5],
        ),
    ] = None
    loop: Annotated[
        bool | None,
        Field(description="The clip is a loop, and so is the result; not with a region."),
    ] = None
    loudness: Annotated[
        Loudness | None,
        Field(
            description="Of the result: `none` (as the model makes it), `source` (as loud as the "
            "clip) or a number of LUFS, no further than to a peak of -1 dBTP. Default: none.",
            examples=["source", -14],
        ),
    ] = None
    format: Annotated[
        Literal["wav", "wav24", "wav32f", "flac"] | None,
        Field(description="Of the result; 16, 24, float 32 and 24 bit. Default: wav."),
    ] = None
    priority: Annotated[
        int | None,
        Field(ge=1, le=3, description="1 overtakes 2 in the queue, 2 overtakes 3. Default: 2."),
    ] = None
    timeout_s: Annotated[
        float | None,
        Field(gt=0, description="Seconds for all of it; the gateway's own bound is the most."),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("audio_file_path") is not None:
            raise ValueError(
                "audio_file_path: the server opens no path of a client's; send the audio itself"
            )
        for name, value in data.items():
            if isinstance(value, bool) and name in cls.model_fields and name not in _SWITCHES:
                raise ValueError(f"{name}: {str(value).lower()}; no truth value is expected")
        return {
            name: value
            for name, value in data.items()
            if value is not None and not (isinstance(value, str) and not value.strip())
        }

    def options(self) -> EditOptions:
        """The same for the client; audio, seed and session are dealt with elsewhere."""
        return {
            "variation": self.variation or ("custom" if self.custom_prompt else None),
            "prompt": self.custom_prompt,
            "flowstep": self.flowstep,
            "strength": self.strength,
            "solver": self.solver,
            "steps": self.steps,
            "guidance": self.guidance,
            "start": self.start,
            "end": self.end,
            "loop": bool(self.loop),
            # Who does not know the field hears what the old service's clients have always heard.
            "loudness": "none" if self.loudness is None else self.loudness,
            "format": self.format,
            "priority": self.priority,
        }

    def music_options(self, duration: float) -> GenerateOptions:
        """The same for text-to-music, which refuses what is about a clip; the prompt is apart."""
        asked = {**self.options(), "prompt": None, "duration": duration}
        given = {
            name: value for name, value in asked.items() if value is not None and value is not False
        }
        return cast(GenerateOptions, given)


class MusicFields(EditFields):
    """The same for an edit, or with a `duration` for music from the prompt alone."""

    duration: Annotated[
        float | None,
        Field(
            gt=0,
            description="Seconds of music to make from nothing but the prompt: text-to-music. "
            "Instead of `audio`, and without what is about a clip (flowstep, strength, start, end, "
            "loop).",
            examples=[10],
        ),
    ] = None


class StrictFields(MusicFields):
    """The same, and any other field is refused."""

    model_config = ConfigDict(extra="forbid")


class StreamRequest(StrictFields):
    """An edit, or text-to-music, for POST /transform/stream."""

    audio: SourceAudio = None


class TransformRequest(MusicFields):
    """An edit, or text-to-music, for POST /transform. Fields that are not known are ignored."""

    audio: SourceAudio = None


class AudioDataRequest(EditFields):
    """An edit of a client that calls the audio `audio_data`. Unknown fields are ignored."""

    audio_data: Base64Audio


class SessionRequest(BaseModel):
    """Names a session."""

    session_id: SessionId


class ErrorBody(BaseModel):
    """What went wrong, in words."""

    error: str


class LoudnessAnswer(BaseModel):
    """What came of the loudness that was asked for; LUFS are null for silence and under 0.4 s."""

    asked: str
    source_lufs: float | None
    result_lufs: float | None
    gain_db: float
    limited_by: Literal["peak"] | None = Field(description="peak: -1 dBTP went before")


class TransformAnswer(BaseModel):
    """The result; the seed that was used is in the header X-Melodyflow-Seed."""

    audio: Base64Audio
    message: str = "Audio processed successfully"
    loudness: LoudnessAnswer | None = Field(None, description="Where one was asked for.")


class Variation(BaseModel):
    """A named variation."""

    prompt: str
    flowstep: float
    steps: int
    category: str


class Variations(BaseModel):
    """All of them, in order."""

    variations: dict[str, Variation]


class Checkpoint(BaseModel):
    """The weights that the server runs."""

    name: str
    licence: str
    sha256: str


class Queue(BaseModel):
    """Edits that wait: `waiting` is Triton's number, of all its clients."""

    waiting: int | None
    gateway_waiting: int
    gateway_running: int


class Resources(BaseModel):
    """Of the machine that Triton runs on; null where its metrics do not say."""

    cpu_percent: float | None
    memory_percent: float | None
    gpu_memory_used: int | None = Field(description="bytes")
    gpu_memory_total: int | None = Field(description="bytes")


class Health(BaseModel):
    """Whether edits are taken, and by what."""

    status: Literal["healthy", "unhealthy"]
    error: str | None = None
    gpu_available: bool
    model_loaded: bool
    uptime: float = Field(description="seconds since the gateway started")
    resources: Resources
    queue: Queue
    checkpoint: Checkpoint | None
    version: str


class QueueStatus(BaseModel):
    """Where an edit stands; position and time are approximate."""

    status: Literal["queued", "warming", "processing", "completed", "failed"]
    message: str
    position: int
    estimated_time: str | None


class JuceStarted(BaseModel):
    """An edit has begun."""

    success: Literal[True] = True
    session_id: str
    seed: int
    message: str


class JuceStatus(BaseModel):
    """How far an edit is; `success` says that the session is known."""

    success: Literal[True] = True
    status: Literal["queued", "warming", "processing", "completed", "failed"]
    progress: float = Field(ge=0, le=100)
    queue_status: QueueStatus
    transform_in_progress: bool
    seed: int | None = None
    audio_data: Base64Audio | None = None
    error: str | None = None


class JuceUndone(BaseModel):
    """The audio as it was before the session's last edit."""

    success: Literal[True] = True
    audio_data: Base64Audio
    message: str


class JuceError(BaseModel):
    """What went wrong, in words."""

    success: Literal[False] = False
    status: Literal["unknown"] | None = None
    error: str
