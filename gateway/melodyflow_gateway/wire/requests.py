"""Typed models of requests, for validation and for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
    model_validator,
)

from melodyflow_client.contract import DEFAULT_LIMITS, OPTIONS, Parameter, default_of
from melodyflow_client.options import EditOptions, GenerateOptions
from melodyflow_client.presets import CUSTOM

from .models import AUDIO_FILE, Base64Audio, SessionId

PATH = "audio_file_path"
SourceAudio = Annotated[
    Base64Audio | None,
    Field(description=f"{AUDIO_FILE}. Required without a `duration`."),
]


def _fields(scope: Literal["edit", "music"]) -> Any:
    """A model with the contract's options for edits, or those for text-to-music alone."""
    rows = [row for row in OPTIONS.values() if row.is_for("edit") == (scope == "edit")]
    return create_model("Fields", **{row.field_name: _field(row) for row in rows})


def _field(row: Parameter) -> Any:
    """The type of an option, with what does not depend on the server's limits: those are looked up
    with each edit. All are optional."""
    text = f"{row.meaning()}. Default: {row.client_default or row.default_text}."
    field: dict[str, Any] = {"description": text[0].upper() + text[1:].format(**DEFAULT_LIMITS)}
    if row.example is not None:
        field["examples"] = [row.example]
    if row.name == "session_id":
        return SessionId | None, Field(None, description=field["description"])
    if row.name == "variation":
        field["max_length"] = 200
    if row.kind == "choice":
        return Literal[tuple(row.choices)] | None, Field(None, **field)
    if row.choices:  # the client and the server check it, and say what is allowed
        low, high = row.bounds()
        numbers = {"type": "number", "minimum": low, "maximum": high}
        schema = WithJsonSchema({"anyOf": [{"enum": list(row.choices)}, numbers]})
        return Annotated[float | str, schema] | None, Field(None, **field)
    if row.kind != "text":
        low, high = (None if isinstance(end, str) else end for end in (row.lowest, row.highest))
        field |= {"gt" if row.above else "ge": low, "lt" if row.below else "le": high}
    types = {"switch": bool, "whole": int, "number": float}
    return types.get(row.kind, str) | None, Field(None, **field)


_SWITCHES = {row.field_name for row in OPTIONS.values() if row.kind == "switch"}


class EditFields(_fields("edit")):  # type: ignore[misc]  # made from the contract's table
    """The options of an edit. Blank and null count as absent."""

    without_audio: ClassVar[str] = (  # an error's text
        "audio: is missing; send a clip, or a duration for text-to-music"
    )

    model_config = ConfigDict(allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for name, value in data.items():
            if isinstance(value, bool) and name in cls.model_fields and name not in _SWITCHES:
                raise ValueError(f"{name}: expected a number or text, got {str(value).lower()}")
        given = {
            name: value
            for name, value in data.items()
            if value is not None and not (isinstance(value, str) and not value.strip())
        }
        if PATH in given and PATH not in cls.model_fields:
            raise ValueError(f"{PATH}: only POST /transform opens one; send the audio instead")
        if isinstance(given.get("solver"), str):
            given["solver"] = given["solver"].strip().lower()
        return cls.translated(given)

    @classmethod
    def translated(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The fields that were given, by their present names. Raises ValueError."""
        return given

    @property
    def audio_is_elsewhere(self) -> bool:
        """Whether the audio of an edit isn't in its request: in a file, or in the session."""
        return False

    @property
    def as_the_clip(self) -> bool:
        """Whether the result has the file format of the clip."""
        return False

    def options(self) -> EditOptions:
        """The same for the client; session and timeout are dealt with elsewhere."""
        given = {
            row.name: getattr(self, row.field_name, None)
            for row in OPTIONS.values()
            if row.is_for("edit") and row.name not in ("session_id", "timeout")
        }
        given["variation"] = self.variation or (CUSTOM if self.custom_prompt else None)
        # Who does not know the field hears what the old service's clients have always heard.
        given["loudness"] = default_of("loudness") if self.loudness is None else self.loudness
        return cast(
            EditOptions, {name: value for name, value in given.items() if value is not None}
        )

    def music_options(self, duration: float) -> GenerateOptions:
        """The same for text-to-music, which refuses what is about a clip; the prompt is apart."""
        asked = {**self.options(), "duration": duration}
        given = {
            name: value
            for name, value in asked.items()
            if value is not False and name not in ("prompt", "new_take")
        }
        return cast(GenerateOptions, given)


class MusicFields(EditFields, _fields("music")):  # type: ignore[misc]  # as above
    """The same for an edit, or with a `duration` for music from the prompt alone."""


class StrictFields(MusicFields):
    """The same; refuses any other field."""

    model_config = ConfigDict(extra="forbid")


class StreamRequest(StrictFields):
    """An edit, or text-to-music, for POST /transform/stream."""

    audio: SourceAudio = None


class FileAlone(BaseModel):
    """A form with the file `audio`; refuses any field."""

    model_config = ConfigDict(extra="forbid")


class SessionRequest(BaseModel):
    """Names a session."""

    session_id: SessionId
