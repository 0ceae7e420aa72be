"""Integer formats never clip, and float ones are never touched."""

import io

import numpy as np
import pytest
import soundfile

from melodyflow import audio
from melodyflow.audio import FORMATS

from .files import noise, read


@pytest.mark.parametrize("format", FORMATS)
def test_level_leaves_what_fits(format):
    for wave in (np.zeros((2, 100), np.float32), noise(peak=1.0), np.ones((1, 9), np.float32)):
        before = wave.copy()
        assert audio.prevent_clipping(wave, format) == 0.0
        np.testing.assert_array_equal(wave, before)


@pytest.mark.parametrize(("format", "bits"), [("wav", 16), ("wav24", 24), ("flac", 24)])
@pytest.mark.parametrize("peak", [1.0000001, 1.5, 3.7, 1000.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_level_scales_the_peak_to_the_largest_value(format, bits, peak, sign):
    wave = noise(peak=0.9 * peak)
    wave[1, 5] = sign * np.float32(peak)
    scaled = wave.copy()
    gain = audio.prevent_clipping(scaled, format)
    assert gain == pytest.approx(-20 * np.log10(peak), abs=1e-3)
    assert gain < 0
    data, _ = soundfile.read(
        io.BytesIO(audio.write(scaled, 48000, format, {})), dtype="int32", always_2d=True
    )
    stored = data.T >> (32 - bits)
    largest = 2 ** (bits - 1) - 1
    assert stored[1, 5] == sign * largest
    assert (np.abs(stored) == largest).sum() == 1
    np.testing.assert_allclose(scaled * peak, wave, rtol=1e-4, atol=1e-4)


def test_level_never_touches_float_files():
    loud = noise(peak=8.0)
    before = loud.copy()
    assert audio.prevent_clipping(loud, "wav32f") == 0.0
    np.testing.assert_array_equal(loud, before)
    np.testing.assert_array_equal(read(audio.write(loud, 48000, "wav32f", {})).samples, loud)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_level_refuses_what_is_not_finite(value):
    wave = noise()
    wave[0, 3] = value
    with pytest.raises(ValueError, match="must be finite"):
        audio.prevent_clipping(wave, "wav")
