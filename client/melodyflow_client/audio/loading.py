"""Any sound -> a clip, block by block, within limits."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import AudioError
from .arrays import sound_of
from .blocks import to_float32
from .containers import (
    Check,
    Damaged,
    NotInstalled,
    Sound,
    Undecodable,
    container_of,
    in_stereo,
)
from .digest import Digest
from .limits import Budget, Holding, Limits
from .source import ArraySource, File, FileSource, opened
from .wav import SUBTYPES, Overload, WavWriter

_MOST_WARNINGS = 20


@dataclass(frozen=True)
class Clip:
    """A sound, ready to send.

    data: WAV or FLAC bytes. digest: hex SHA-256 of the decoded samples, rate and channels, so
    that the same sound in two containers is one clip. samples: per channel. warnings: what was
    guessed or repaired, in sentences.
    """

    data: bytes
    digest: str
    sample_rate: int
    channels: int
    samples: int
    warnings: tuple[str, ...] = ()


AudioSource: TypeAlias = FileSource | ArraySource | Clip


def load(
    source: AudioSource,
    *,
    limits: Limits | None = None,
    max_seconds: float = math.inf,
    budget: Budget | None = None,
    check: Check | None = None,
) -> Clip:
    """Reads a path, bytes, a binary file object (from where it stands) or `(array, rate)`.

    An array is `[channels, samples]` or `[samples]`, int16, int32, float32 or float64, full scale
    at 1.0 for floats; rate in Hz. A clip that is loaded already is returned as it is.

    limits: what is accepted; `max_seconds` is short for Limits(max_seconds=...), and the smaller of
        both counts. budget: where the clip's bytes come from. check: called between blocks; what it
        raises ends the decoding.

    Takes the memory of the resulting file and of a few blocks. Raises AudioError, and what budget
    and check raise.
    """
    if isinstance(source, Clip):
        return source
    limits = limits or Limits()
    limits = replace(limits, max_seconds=min(limits.max_seconds, max_seconds))
    holding = Holding(budget)
    check = check or _go_on
    try:
        if isinstance(source, tuple):
            clip = _rewritten(sound_of(source, check), limits, holding)
        else:
            with opened(source, holding) as file:
                clip = _decoded(file, limits, holding, check)
        # what is the caller's stays the caller's; a file that was read only to be decoded goes
        holding.give_back(holding.size - (0 if clip.data is source else len(clip.data)))
    except BaseException:
        holding.give_all_back()
        raise
    return clip


def waveform(data: bytes) -> tuple[npt.NDArray[np.float32], int]:
    """WAV or FLAC bytes -> float32 `[channels, samples]`, full scale at 1.0, and the rate in Hz."""
    container = container_of(File(io.BytesIO(data), data))
    sound = container.readers[0](container.part, _go_on)
    empty = np.empty((sound.channels, 0), np.float32)
    blocks = (to_float32(block).T for block in sound.blocks())
    return np.concatenate([empty, *blocks], axis=1), sound.sample_rate


def _go_on() -> None:
    pass


def _decoded(file: File, limits: Limits, holding: Holding, check: Check) -> Clip:
    """The clip that the first decoder makes that can."""
    if not file.size:
        raise AudioError("audio: is empty, 0 bytes")
    container = container_of(file)
    warnings = container.warnings
    errors: list[Undecodable] = []
    for read_header in container.readers:
        before = holding.size
        try:
            sound = read_header(container.part, check)
            sound.warnings[:0] = warnings
            if sound.sample_rate > 0:  # the length first: it is what people can change
                limits.check_length(sound.samples or 0, sound.sample_rate)
            sound = in_stereo(sound)
            limits.check_format(sound.sample_rate, sound.channels)
            if sound.sent_unchanged:
                return _unchanged(container.part, sound, limits, holding)
            return _rewritten(sound, limits, holding)
        except Undecodable as error:
            holding.give_back(holding.size - before)
            errors.append(error)
            if isinstance(error, Damaged):
                warnings.append(error.what)
    if not isinstance(errors[-1], NotInstalled):
        raise errors[-1]
    # no reason where another decoder knew the file, unless that one asked for it
    raise next((error for error in errors[:-1] if isinstance(error, NotInstalled)), errors[0])


def _unchanged(file: File, sound: Sound, limits: Limits, holding: Holding) -> Clip:
    """The file itself, decoded only for its digest."""
    limits.check_bytes(file.size)
    digest = Digest(sound.sample_rate, sound.channels)
    samples = 0
    for block in sound.blocks():
        samples += len(block)
        limits.check_length(samples, sound.sample_rate)
        digest.update(block)
    if not samples:
        raise AudioError("audio: holds no samples")
    return _clip(file.whole(limits, holding), digest, sound, samples)


def _rewritten(sound: Sound, limits: Limits, holding: Holding) -> Clip:
    """A WAV of what is decoded: 24 bits for lossy codings, float beyond full scale, so that nothing
    clips."""
    before = holding.size
    try:
        return _written(sound, sound.subtype or "PCM_24", limits, holding)
    except Overload:
        holding.give_back(holding.size - before)
        return _written(sound, "FLOAT", limits, holding)


def _written(sound: Sound, subtype: str, limits: Limits, holding: Holding) -> Clip:
    limits.check_format(sound.sample_rate, sound.channels)
    limits.check_bytes((sound.samples or 0) * sound.channels * SUBTYPES[subtype][1] // 8)
    digest = Digest(sound.sample_rate, sound.channels)
    wav = WavWriter(sound.sample_rate, sound.channels, subtype, limits, holding)
    for block in sound.blocks():
        limits.check_length(wav.frames + len(block), sound.sample_rate)
        digest.update(wav.write(block))
    if not wav.frames:
        raise AudioError("audio: holds no samples")
    return _clip(wav.finish(), digest, sound, wav.frames)


def _clip(data: bytes, digest: Digest, sound: Sound, samples: int) -> Clip:
    return Clip(
        data,
        digest.hexdigest(),
        sound.sample_rate,
        sound.channels,
        samples,
        _told(sound.warnings),
    )


def _told(warnings: list[str]) -> tuple[str, ...]:
    """Each once, though some sounds are decoded twice, and no more than people read."""
    told = tuple(dict.fromkeys(warnings))
    more = len(told) - _MOST_WARNINGS
    return told if more <= 0 else (*told[:_MOST_WARNINGS], f"{more} more such warnings")
