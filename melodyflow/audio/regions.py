"""Regions of a clip: their samples, and how a result replaces them."""

import numpy as np

from melodyflow.audio.limits import Limits
from melodyflow.audio.waveform import Extent, Waveform
from melodyflow.errors import AudioError


def region_samples(
    start: float | None, end: float | None, extent: Extent, limits: Limits
) -> tuple[int, int]:
    """The samples first <= i < last of a clip between two times in seconds; None means the clip's
    own start or end. Raises AudioError if they are outside the clip or closer than the shortest
    clip. An end may be a millisecond late, which is more than float32's rounding."""
    rate = extent.sample_rate
    first = round((start or 0.0) * rate)
    last = extent.samples if end is None else min(round(end * rate), extent.samples)
    for name, value in (("start", start), ("end", end)):
        if value is not None and value > extent.seconds + 0.001:
            raise AudioError(f"{name}: {value:g}; the clip ends at {extent.seconds:.6g} s")
    # Both ends are rounded, so one sample may be missing.
    if last - first < round(limits.min_seconds * rate) - 1:
        name, value = ("start", start) if end is None else ("end", end)
        seconds = max(0, last - first) / rate
        raise AudioError(
            f"{name}: {value:g}; the region would last {seconds:.6g} s; it needs at least "
            f"{limits.min_seconds:g} s"
        )
    return first, last


def splice(source: Waveform, result: Waveform, first: int, last: int, fade: int) -> Waveform:
    """The source with its samples first <= i < last replaced by the result `[channels, last -
    first]`. The source has as many channels as the result, or one. The two are crossfaded over
    `fade` samples inside each end, unless that end is the source's own."""
    samples = source.shape[1]
    spliced = np.repeat(source, result.shape[0] // source.shape[0], axis=0)
    weight = np.ones(last - first, np.float32)
    fade = min(fade, (last - first) // 2)
    # Raised cosines that add up to 1: never louder than the louder of the two signals.
    rise = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / max(fade, 1)).astype(np.float32) ** 2
    if first > 0:
        weight[:fade] = rise
    if last < samples:
        weight[len(weight) - fade :] = rise[::-1]
    inside = spliced[:, first:last]
    inside += weight * (result - inside)
    return spliced
