"""The samples of a region, and a splice that changes nothing outside of it."""

import numpy as np
import pytest

from melodyflow import audio
from melodyflow.audio import Limits
from melodyflow.errors import AudioError

from .files import noise


@pytest.mark.parametrize(
    ("start", "end", "samples"),
    [
        (None, None, (0, 100_000)),
        (0.5, None, (22050, 100_000)),
        (None, 1.0, (0, 44100)),
        (0.5, 0.6, (22050, 26460)),
        (0.0, 100_000 / 44100, (0, 100_000)),
        (0.0, np.float32(100_000 / 44100).item() + 1e-4, (0, 100_000)),  # late, by rounding
    ],
)
def test_the_samples_of_a_region(start, end, samples):
    extent = audio.Extent(1, 100_000, 44100)
    assert audio.region_samples(start, end, extent, Limits()) == samples


@pytest.mark.parametrize(
    ("named", "start", "end"),
    [
        ("start", 3.0, None),
        ("end", 1.0, 2.3),
        ("end", 1.0, 1.0999),
        ("start", 2.2, None),
        ("end", None, 0.05),
    ],
)
def test_what_is_not_a_region_is_named(named, start, end):
    with pytest.raises(AudioError, match=rf"^{named}: "):
        audio.region_samples(start, end, audio.Extent(1, 100_000, 44100), Limits())


@pytest.mark.parametrize(("first", "last"), [(0, 900), (100, 900), (100, 1000), (0, 1000)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_splice_changes_nothing_outside_and_hands_over_inside(first, last, channels):
    source, result = noise(channels, 1000), noise(2, last - first) + 3
    spliced = audio.splice(source, result, first, last, 50)
    np.testing.assert_array_equal(spliced[:, :first], np.broadcast_to(source, (2, 1000))[:, :first])
    np.testing.assert_array_equal(spliced[:, last:], np.broadcast_to(source, (2, 1000))[:, last:])
    begin, end = (50 if first else 0), (50 if last < 1000 else 0)
    inner = slice(first + begin, last - end)
    expected = result[:, begin : result.shape[1] - end]
    np.testing.assert_allclose(spliced[:, inner], expected, atol=1e-6)
    assert np.all(spliced <= np.maximum(source.max(), result.max()))


def test_a_splice_joins_without_a_jump():
    """Two unrelated tones: a hard cut jumps by up to 2, the crossfade moves little more than a
    tone does by itself."""
    t = np.arange(9600, dtype=np.float32) / 48000
    source, result = np.cos(2 * np.pi * 200 * t)[None], -np.cos(2 * np.pi * 200 * t)[None]
    steps = {
        fade: np.abs(np.diff(audio.splice(source, result[:, 2400:7200], 2400, 7200, fade))).max()
        for fade in (0, 480)
    }
    alone = np.abs(np.diff(source)).max()
    assert steps[0] > 20 * alone
    assert steps[480] < 1.3 * alone
