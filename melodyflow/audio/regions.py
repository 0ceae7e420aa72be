"""A part of a clip: its samples, and how a result takes their place."""

import numpy as np

from melodyflow.audio.limits import Limits
from melodyflow.audio.waveform import Extent, Waveform
from melodyflow.errors import AudioError


def region_samples(
    start: float | None, end: float | None, extent: Extent, limits: Limits
) -> tuple[int, int]:
    """The samples first <= i < last of a clip between two times in seconds; None: the clip's own
    start or end. Raises AudioError where they are no part of it, or shorter than the shortest
    clip. An end may be late by a millisecond, which is more than float32 rounds it by."""
    rate = extent.sample_rate
    first = round((start or 0.0) * rate)
    last = extent.samples if end is None else min(round(end * rate), extent.samples)
    for name, value in (("start", start), ("end", end)):
        if value is not None and value > extent.seconds + 0.001:
            raise AudioError(f"{name}: {value:g}; the clip ends at {extent.seconds:.6g} s")
    # Both ends are rounded, so that one sample may lack.
    if last - first < round(limits.min_seconds * rate) - 1:
        name, value = ("start", start) if end is None else ("end", end)
        seconds = max(0, last - first) / rate
        raise AudioError(
            f"{name}: {value:g}; the region would have {seconds:.6g} s, at least "
            f"{limits.min_seconds:g} s are needed"
        )
    return first, last


def splice(source: Waveform, result: Waveform, first: int, last: int, fade: int) -> Waveform:
    """The source with the result `[channels, last - first]` in its samples first <= i < last; the
    source has its own channels, or one. Within `fade` samples inside of either end the two are
    crossfaded, unless that end is the source's own."""
    samples = source.shape[1]
    spliced = np.repeat(source, result.shape[0] // source.shape[0], axis=0)
    weight = np.ones(last - first, np.float32)
    fade = min(fade, (last - first) // 2)
    # Raised cosines that add up to 1: never louder than the louder of the two.
    rise = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / max(fade, 1)).astype(np.float32) ** 2
    if first > 0:
        weight[:fade] = rise
    if last < samples:
        weight[len(weight) - fade :] = rise[::-1]
    inside = spliced[:, first:last]
    inside += weight * (result - inside)
    return spliced
