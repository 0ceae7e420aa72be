"""The audio of one request: from its file to the model, and back to the result's file."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from melodyflow import audio
from melodyflow.audio import Audio, Extent, Limits, Waveform, loudness
from melodyflow.audio.loudness import LoudnessMatch
from melodyflow.engine import Check
from melodyflow.errors import AudioError, Code, EditError
from melodyflow.model.codec import CodecConfig
from melodyflow.serving.request import EditRequest

# Between region and source, inside the region's ends.
CROSSFADE_SECONDS = 0.01


@dataclass(frozen=True)
class Result:
    """The result of a request."""

    file: bytes
    sample_rate: int
    gain_db: float  # total gain of the edited part
    matched: LoudnessMatch | None  # if a loudness was requested
    # Of the whole clip and the whole result; None: no clip, silent or shorter than 0.4 s.
    clip_lufs: float | None
    result_lufs: float | None


class Placed(NamedTuple):
    """A result's samples [channels, samples] in the clip's length, rate and level."""

    samples: Waveform
    sample_rate: int
    gain_db: float  # total gain of the edited part
    matched: LoudnessMatch | None  # if a loudness was requested


class Sound:
    """The audio of one request. Raises EditErrors that name the input."""

    def __init__(self, request: EditRequest, codec: CodecConfig, limits: Limits, most: int) -> None:
        """Checks what it can without decoding. `most`: the longest clip, in samples at the model's
        rate."""
        self._file = request.audio  # until it is read
        self._request = dataclasses.replace(request, audio=None)
        self._codec = codec
        self._limits = limits
        self._most = most
        self._source: Audio | None = None  # if the result keeps a part of it
        self._clip_lufs: float | None = None
        self._source_lufs: float | None = None  # of the part that is edited
        duration = request.parameters.duration
        if duration is not None:
            rate = codec.sample_rate
            self._extent = Extent(1, round(duration * rate), rate)
        with _named():
            self.frames = self._expected_frames()

    @property
    def seconds(self) -> float:
        """The clip's duration, once it has been read."""
        return self._extent.seconds

    def read(self, check: Check) -> Tensor:
        """The source [channels, samples] at the model's rate. `check` is called now and then, and
        ends the work by raising."""
        with _named():
            source = audio.read(
                self._take_file(),
                self._limits,
                model_rate=self._codec.sample_rate,
                max_model_samples=self._most,
                check=check,
            )
            check()
            self._extent = source.extent
            self._check(source.extent)
            if self._request.parameters.has_region:
                self._source = source
                self._check_format_holds(source)
            waveform = audio.to_model(
                source,
                sample_rate=self._codec.sample_rate,
                channels=self._codec.channels,
                loop_hop=self._codec.hop if self._request.parameters.loop else None,
            )
        self._measure(source, check)
        return torch.from_numpy(waveform)

    def finish(self, decoded: Tensor, comments: Mapping[str, str], check: Check) -> Result:
        """Makes the result's file from the decoder's output [channels, frames*hop] on the CPU. May
        modify `decoded`. `check`: as in read()."""
        format = self._request.format
        return self._write(self._place(decoded, format, check), format, comments, check)

    def preview(self, decoded: Tensor, comments: Mapping[str, str], check: Check) -> Result:
        """The same of an unfinished result, as a FLAC file."""
        placed = self._place(decoded, "flac", check)
        audio.prevent_clipping(placed.samples, "flac")  # a float clip's peak outside the region
        return self._write(placed, "flac", comments, check)

    def _write(
        self, placed: Placed, format: str, comments: Mapping[str, str], check: Check
    ) -> Result:
        result, rate, gain_db, matched = placed
        if matched is not None and self._source is None:
            lufs = matched.result_lufs
        else:
            lufs = loudness.integrated(result, rate, check=check)
        check()
        file = audio.write(result, rate, format, comments)
        return Result(file, rate, gain_db, matched, self._clip_lufs, lufs)

    def _place(self, decoded: Tensor, format: str, check: Check) -> Placed:
        request, extent = self._request, self._extent
        rate = request.sample_rate or extent.sample_rate
        result = audio.from_model(
            decoded.numpy(),
            model_rate=self._codec.sample_rate,
            extent=extent,
            sample_rate=rate,
            loop=request.parameters.loop,
        )
        if self._source is None:
            gain_db, matched = self._level(result, rate, 0, result.shape[1], format, check)
        else:
            first, last = self._region(extent)
            gain_db, matched = self._level(result, rate, first, last, format, check)
            fade = round(CROSSFADE_SECONDS * rate)
            inside = result[:, first:last]
            result = audio.splice(self._source.samples, inside, first, last, fade)
        return Placed(result, rate, gain_db, matched)

    def _take_file(self) -> bytes:
        """The source's file, which is freed once it has been read."""
        file, self._file = self._file, None
        return file or b""

    def _measure(self, source: Audio, check: Check) -> None:
        """Measures the loudness of the clip, and of the edited part if it is needed."""
        # A mono source plays from all of the result's channels.
        heard = max(source.extent.channels, self._codec.channels) // source.extent.channels
        rate = source.sample_rate
        self._clip_lufs = loudness.integrated(source.samples, rate, heard, check)
        self._source_lufs = self._clip_lufs
        if self._request.parameters.has_region and self._request.loudness is not None:
            first, last = self._region(source.extent)
            edited = source.samples[:, first:last]
            self._source_lufs = loudness.integrated(edited, rate, heard, check)

    def _level(
        self, result: Waveform, rate: int, first: int, last: int, format: str, check: Check
    ) -> tuple[float, LoudnessMatch | None]:
        """Brings the edited part, samples first <= i < last, to its final level, in place. Returns
        the total gain in dB and the loudness match, if one was requested."""
        matched, gain_db = None, 0.0
        edited = result[:, first:last]
        if self._request.loudness is not None:
            asked = self._request.loudness
            part = first, last
            matched = loudness.match(asked, result, rate, self._source_lufs, part, check)
            gain_db = matched.gain_db
            if gain_db:
                edited *= np.float32(10 ** (gain_db / 20))
        return gain_db + audio.prevent_clipping(edited, format), matched

    def _expected_frames(self) -> int:
        """The number of latent frames to solve for: from the source's header, which is checked
        here, or the maximum if the header doesn't say."""
        if self._file is None:
            self._check(self._extent)
            return self._codec.frames(self._extent.samples)
        rate = self._codec.sample_rate
        header = audio.check_header(
            self._file, self._limits, model_rate=rate, max_model_samples=self._most
        )
        if header.samples is None:
            return self._codec.frames(self._most)
        self._check(Extent(header.channels, header.samples, header.sample_rate))
        length = audio.model_length(header.samples, header.sample_rate, rate)
        if self._request.parameters.loop:
            hop = self._codec.hop
            length = audio.loop_length(header.samples, header.sample_rate, rate, hop)
        return self._codec.frames(length)

    def _check(self, extent: Extent) -> None:
        """Checks the request against a clip of that extent."""
        request = self._request
        asked = request.sample_rate or extent.sample_rate
        audio.check_format(request.format, asked)
        if request.previews:
            try:
                audio.check_format("flac", asked)
            except AudioError as error:
                raise AudioError(f"previews: they are FLAC files; {error}") from None
        if request.parameters.has_region:
            if asked != extent.sample_rate:
                raise AudioError(
                    f"sample_rate: {asked} Hz; with a region (start, end) it must be the input's "
                    f"own, {extent.sample_rate} Hz"
                )
            self._region(extent)

    def _region(self, extent: Extent) -> tuple[int, int]:
        """The samples of a clip of that extent to edit: first <= sample < last."""
        parameters = self._request.parameters
        return audio.region_samples(parameters.start, parameters.end, extent, self._limits)

    def _check_format_holds(self, source: Audio) -> None:
        """The audio outside the region stays unchanged, so it can't be turned down."""
        peak = audio.peak(source.samples)
        if self._request.format != "wav32f" and peak > 1:
            raise AudioError(
                f"format: {self._request.format!r}; the clip's peak is {peak:.6g}: with a region "
                "(start, end), only wav32f can hold it"
            )


@contextmanager
def _named() -> Iterator[None]:
    """Turns an AudioError, whose text names an input, into an EditError."""
    try:
        yield
    except AudioError as error:
        raise EditError(Code.INVALID_ARG, str(error)) from None
