"""What the server responds to an edit: progress, then the result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .audio import waveform
from .errors import AudioError
from .saving import write_file

_SUFFIXES = {"wav": ("", ".wav", ".wave"), "flac": ("", ".flac")}


class AudioFile:
    """The bytes of a WAV or FLAC file, and what is in it. sample_rate: in Hz."""

    audio: bytes
    sample_rate: int

    @property
    def container(self) -> str:
        """`wav` or `flac`, by content."""
        return "flac" if self.audio.startswith(b"fLaC") else "wav"

    @cached_property
    def waveform(self) -> npt.NDArray[np.float32]:
        """float32 `[channels, samples]`, full scale at 1.0; decoded on first use."""
        return waveform(self.audio)[0]

    @property
    def seconds(self) -> float:
        return self.waveform.shape[1] / self.sample_rate

    @property
    def peak(self) -> float:
        """The largest absolute sample."""
        return float(np.max(np.abs(self.waveform), initial=0.0))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the bytes unchanged; the file appears whole or not at all. Links are followed;
        devices and FIFOs are written to.

        Raises AudioError for a suffix of another format, and OSError.
        """
        path = Path(path)
        if path.suffix.lower() not in _SUFFIXES[self.container]:
            raise AudioError(
                f"{path}: the result is {self.container.upper()}; name it "
                f"{_SUFFIXES[self.container][1]} or ask for another format"
            )
        write_file(path, self.audio)
        return path


@dataclass(frozen=True)
class Preview(AudioFile):
    """What an edit's result would be from here: a FLAC file of its length, rate and level.

    step, total: network calls done when it was made, and needed.
    info: `clip_lufs` and `result_lufs`, as in the result's.
    """

    audio: bytes = field(repr=False)
    sample_rate: int
    step: int
    total: int
    info: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Progress:
    """How far an edit is.

    stage: "queued", then "encoding", "inverting", "generating", "decoding"; "warming" while the
        server is away, for example to restart: the edit is sent again and starts over when it is
        back. "queued" and "warming" come from the client.
    progress: 0 to 1, never falls; 1 only with the result.
    step, total: network calls done and needed; both 0 while that isn't known.
    preview: where this event brings one, for an edit with `previews`.
    """

    stage: str
    progress: float
    step: int
    total: int
    preview: Preview | None = None


@dataclass(frozen=True)
class Result(AudioFile):
    """An edited clip.

    audio: the bytes of a WAV or FLAC file. sample_rate: in Hz. seed: gives the same take again.
    gain_db: the gain applied for the loudness asked for, or to keep an integer format from
        clipping; 0: none.
    info: the parameters used, checkpoint, licence and stage times, as the server reports them.
    variation: its name; None: there was only a prompt.
    warnings: what the client guessed or repaired in the input, one sentence each.
    """

    audio: bytes = field(repr=False)
    sample_rate: int
    seed: int
    gain_db: float
    info: Mapping[str, Any] = field(repr=False)
    variation: str | None = None
    request_id: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def loudness(self) -> Mapping[str, Any] | None:
        """How the loudness asked for was met; None: there was none.

        Keys: `asked`, `source_lufs`, `result_lufs`, `gain_db` and `limited_by`, which is "peak" if
        -1 dBTP allowed no more gain, else None. LUFS are None for silence and under 0.4 s.
        """
        return self.info.get("loudness")
