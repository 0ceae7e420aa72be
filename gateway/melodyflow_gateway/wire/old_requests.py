"""Requests in the words of the old service's clients, and what those words mean here."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from melodyflow_client.contract import OPTIONS

from .models import AUDIO_FILE, Base64Audio
from .requests import EditFields, MusicFields, SourceAudio

SEEDS_READ_OUT = 100_000  # five digits: people read seeds out to each other
AUTO = "auto"  # the format that the clip came in

OLD_FORMATS = {"wav_float": "wav32f"}
_FORMAT_NAMES = tuple(OPTIONS["format"].choices)
_WHOLE = re.compile(r"\s*-\d{1,40}(\.0*)?\s*", re.ASCII)
_FORM_NAMES = {"transformation_type": "variation", "prompt": "custom_prompt"}

AudioFormat = Annotated[
    str | None,
    Field(
        description="Another name of `format`; also `wav_float` (float 32) and `auto` (as the clip "
        "came in: WAV of the same depth, or FLAC).",
        examples=["wav"],
    ),
]


class OldFields(EditFields):
    """The same as the old service's clients send it.

    A seed that is missing, blank or negative is a new one from 0 to 99999: these clients can't ask
    for another take. With `new_take` false the clip keeps its last seed.
    """

    if TYPE_CHECKING:  # the contract's fields are made when the module is loaded
        seed: int | None
        new_take: bool | None

    audio_format: AudioFormat = None

    @classmethod
    def translated(cls, given: dict[str, Any]) -> dict[str, Any]:
        _read_audio_format(given)
        if _is_negative(given.get("seed")):
            del given["seed"]
        return given

    @property
    def as_the_clip(self) -> bool:
        return self.audio_format == AUTO

    @model_validator(mode="after")
    def _draw_seed(self) -> Self:
        if self.seed is None and self.new_take is not False:
            self.seed, self.new_take = secrets.randbelow(SEEDS_READ_OUT), None
        return self


class TransformFields(OldFields, MusicFields):
    """An edit, or text-to-music, for POST /transform. Unknown fields are ignored."""

    audio_file_path: str | None = Field(
        None,
        description="Instead of `audio`: a file in the folder that the operator shares, if any.",
    )

    @property
    def audio_is_elsewhere(self) -> bool:
        return self.audio_file_path is not None

    @model_validator(mode="after")
    def _has_a_clip_for_auto(self) -> Self:
        if self.as_the_clip and self.duration is not None:
            raise ValueError(
                "audio_format: 'auto' is the format of the clip, and text-to-music has none"
            )
        return self


class TransformForm(TransformFields):
    """The fields of a form for POST /transform; `transformation_type` is another name of
    `variation`, and `prompt` of `custom_prompt`. Unknown fields are ignored."""

    @classmethod
    def translated(cls, given: dict[str, Any]) -> dict[str, Any]:
        for old, name in _FORM_NAMES.items():
            _rename(given, old, name)
        return super().translated(given)


class TransformRequest(TransformFields):
    """An edit, or text-to-music, for POST /transform. Unknown fields are ignored."""

    audio: SourceAudio = None


class AudioDataRequest(OldFields):
    """An edit of a client that calls the audio `audio_data`. Unknown fields are ignored."""

    without_audio: ClassVar[str] = (
        "audio_data: is missing; send a clip, or the session_id of a session that has one"
    )

    audio_data: Annotated[
        Base64Audio | None,
        Field(
            description=f"{AUDIO_FILE}. Without it the edit continues from the session's last "
            "result, or from its original."
        ),
    ] = None

    @property
    def audio_is_elsewhere(self) -> bool:
        return self.session_id is not None


def _rename(given: dict[str, Any], old: str, name: str) -> None:
    """Moves a value to its present name. Raises ValueError where that has another one."""
    if old not in given:
        return
    value = given.pop(old)
    if given.setdefault(name, value) != value:
        raise ValueError(f"{old}: is another name of {name}; give one of the two")


def _read_audio_format(given: dict[str, Any]) -> None:
    """`audio_format` becomes a `format`; only AUTO stays, until the clip is known."""
    value = given.get("audio_format")
    if value is None:
        return
    word = value.strip().lower() if isinstance(value, str) else value
    word = OLD_FORMATS.get(word, word) if isinstance(word, str) else word
    if word != AUTO and word not in _FORMAT_NAMES:
        allowed = ", ".join((*_FORMAT_NAMES, *OLD_FORMATS))
        raise ValueError(f"audio_format: {value!r:.80}; {allowed} and {AUTO} are allowed")
    given["audio_format"] = word
    if word == AUTO and "format" in given:
        raise ValueError("audio_format: is another name of format; give one of the two")
    if word != AUTO:
        _rename(given, "audio_format", "format")


def _is_negative(seed: object) -> bool:
    if isinstance(seed, str) and _WHOLE.fullmatch(seed):
        seed = float(seed)
    return isinstance(seed, int | float) and seed < 0 and float(seed).is_integer()
