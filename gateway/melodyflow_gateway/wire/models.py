"""Typed models of answers, and what they share with requests, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

SESSION_ID = r"^[A-Za-z0-9_.:@+=~-]{1,128}$"
SEED_HEADER = "X-Melodyflow-Seed"
WARNINGS_HEADER = "X-Melodyflow-Warnings"
INFO_HEADER = "X-Melodyflow-Info"
PROCESSED = "Audio processed successfully"  # the old service's words

AUDIO_FILE = "An audio file in base64: WAV, FLAC, MP3, M4A, AIFF, OGG, the sound of a video"
SessionId = Annotated[str, Field(pattern=SESSION_ID, examples=["test_session"])]
Base64Audio = Annotated[
    str,
    Field(
        description=f"{AUDIO_FILE}.",
        json_schema_extra={"contentEncoding": "base64"},
    ),
]


class ErrorBody(BaseModel):
    """What went wrong."""

    error: str


Warnings = Annotated[
    list[str] | None,
    Field(description="What was guessed or repaired in the clip, in sentences; absent if nothing."),
]


class LoudnessAnswer(BaseModel):
    """The loudness that was asked for and reached; LUFS are null for silence and below 0.4 s."""

    asked: str
    source_lufs: float | None
    result_lufs: float | None
    gain_db: float
    limited_by: Literal["peak"] | None = Field(description="`peak`: limited to -1 dBTP")


class TransformAnswer(BaseModel):
    """The result; the header X-Melodyflow-Seed has the seed that was used."""

    audio: Base64Audio
    message: str = PROCESSED
    loudness: LoudnessAnswer | None = Field(
        None, description="Present if a loudness was asked for."
    )
    warnings: Warnings = None


class Variation(BaseModel):
    """A named variation."""

    prompt: str
    flowstep: float
    steps: int
    category: str


class Variations(BaseModel):
    """All of them, in order."""

    variations: dict[str, Variation]


class Range(BaseModel):
    """The range of a number, or of a text's length; null: unbounded or unknown."""

    lowest: int | float | None
    highest: int | float | None


class LimitsAnswer(BaseModel):
    """What the server accepts: its limits by the names of its settings, and the ranges of fields
    that follow from them."""

    limits: dict[str, int | float | None] = Field(description="null: the server doesn't report it")
    fields: dict[str, Range]
    max_body_bytes: int = Field(description="of a request's body; the gateway's own setting")


class Checkpoint(BaseModel):
    """The weights that the server has loaded."""

    name: str
    licence: str
    sha256: str


class Queue(BaseModel):
    """Edits that wait; `waiting` is Triton's count over all its clients."""

    waiting: int | None
    gateway_waiting: int
    gateway_running: int


class Resources(BaseModel):
    """Resources of Triton's machine; null where its metrics don't report them."""

    cpu_percent: float | None
    memory_percent: float | None
    gpu_memory_used: int | None = Field(description="bytes")
    gpu_memory_total: int | None = Field(description="bytes")


class HealthLimits(BaseModel):
    """The largest clip; /limits has the rest."""

    seconds: float | None = Field(description="null: the server doesn't report it")
    bytes: int = Field(description="of a request's body; base64 takes a third more than the file")


class Health(BaseModel):
    """Whether edits are accepted, and what runs them."""

    status: Literal["healthy", "warming", "unhealthy"]
    error: str | None = None
    gpu_available: bool
    model_loaded: bool
    uptime: float = Field(description="seconds since the gateway started")
    resources: Resources
    queue: Queue
    limits: HealthLimits
    audio_formats: list[str] = Field(description="of results, as `audio_format` takes them")
    checkpoint: Checkpoint | None
    version: str


class Ready(BaseModel):
    """Whether edits are accepted, and if not, why."""

    ready: bool
    error: str | None = None


class QueueStatus(BaseModel):
    """How far an edit is; position and time are approximate, and left out where unknown."""

    status: Literal["queued", "warming", "processing", "completed", "failed"]
    message: str
    position: int
    estimated_time: str | None = None
    estimated_seconds: float | None = None


class JuceStarted(BaseModel):
    """An edit has started."""

    success: Literal[True] = True
    session_id: str
    seed: int
    message: str


class JuceStatus(BaseModel):
    """How far an edit is; `success` means that the session is known."""

    success: Literal[True] = True
    status: Literal["queued", "warming", "processing", "completed", "failed"]
    progress: float = Field(ge=0, le=100)
    queue_status: QueueStatus
    transform_in_progress: bool
    seed: int | None = None
    audio_data: Base64Audio | None = None
    warnings: Warnings = None
    error: str | None = None


class JuceUndone(BaseModel):
    """The audio as it was before the session's last edit."""

    success: Literal[True] = True
    audio_data: Base64Audio
    message: str


class JuceError(BaseModel):
    """What went wrong."""

    success: Literal[False] = False
    status: Literal["unknown"] | None = None
    error: str
