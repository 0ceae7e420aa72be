"""Exact length, rate, channels and levels of the result, whatever goes in and is asked for."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile

from melodyflow.embedded import EmbeddedServer

from . import raw
from .raw import Waveform

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "wav32f": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_24"),
}
FULL_SCALE = {"wav": 2**15, "wav24": 2**23, "flac": 2**23}
# The cheapest edit that inverts and generates.
EDIT: dict[str, Any] = {"prompt": "a harp", "steps": 1, "regularize_iters": 0, "seed": 5}
CHECKPOINT_CHANNELS = 2


def edited(server: EmbeddedServer, file: bytes, **inputs: Any) -> tuple[Waveform, int, float]:
    """Waveform, rate and gain in dB of an edit, after what holds for every one of them."""
    result = raw.transform(server, {"audio": file, **EDIT, **inputs})
    with soundfile.SoundFile(io.BytesIO(result["audio"])) as opened:
        assert (opened.format, opened.subtype) == FORMATS[inputs.get("format", "wav")]
        assert opened.samplerate == result["sample_rate"]
    samples, rate = raw.decoded(result["audio"])
    assert np.isfinite(samples).all()
    assert np.isfinite(result["gain_db"])
    assert result["gain_db"] <= 0
    return samples, rate, result["gain_db"]


def expected_length(samples: int, own: int, asked: int) -> int:
    return (2 * samples * asked + own) // (2 * own)


# --- what goes in -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "rate", "channels"),
    [
        pytest.param(4800, 48000, 2, id="0.1 s"),
        pytest.param(48000, 48000, 2, id="1 s"),
        pytest.param(48001, 48000, 2, id="48,001 samples"),
        pytest.param(1_440_000, 48000, 2, id="the window"),
        pytest.param(1_323_000, 44100, 1, id="the window at 44.1 kHz"),
        pytest.param(800, 8000, 2, id="0.1 s at 8 kHz"),
        pytest.param(8000, 8000, 2, id="8 kHz"),
        pytest.param(11025, 11025, 1, id="11.025 kHz"),
        pytest.param(22050, 22050, 2, id="22.05 kHz"),
        pytest.param(44101, 44100, 2, id="44,101 samples at 44.1 kHz"),
        pytest.param(96000, 96000, 2, id="96 kHz"),
        pytest.param(191_999, 192000, 1, id="192 kHz"),
        pytest.param(47_777, 47_777, 2, id="a rate that nothing divides"),
        pytest.param(48000, 48000, 1, id="mono"),
    ],
)
def test_as_many_samples_come_back_at_the_same_rate(
    server: EmbeddedServer, samples: int, rate: int, channels: int
) -> None:
    source = raw.file_of(raw.music(samples=samples, rate=rate, channels=channels), rate)
    result, result_rate, _ = edited(server, source)
    assert result_rate == rate
    assert result.shape == (max(channels, CHECKPOINT_CHANNELS), samples)
    assert np.abs(result).max() > 0


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_wav_holds_the_same_music(server: EmbeddedServer, subtype: str) -> None:
    """On the grid of 16 bits all of them hold the same samples, so the edit is the same."""
    waveform = np.rint(raw.music(1) * 2**15) / 2**15
    plain, _, _ = edited(server, raw.file_of(waveform, 48000))
    same, _, _ = edited(server, raw.file_of(waveform, 48000, subtype))
    np.testing.assert_array_equal(same, plain)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_flac_holds_the_same_music(server: EmbeddedServer, subtype: str) -> None:
    waveform = np.rint(raw.music(1) * 2**15) / 2**15
    plain, _, _ = edited(server, raw.file_of(waveform, 48000))
    same, _, _ = edited(server, raw.file_of(waveform, 48000, subtype, "FLAC"))
    np.testing.assert_array_equal(same, plain)


def test_mono_is_two_equal_channels_to_the_model(server: EmbeddedServer) -> None:
    mono = raw.music(1, channels=1)
    both = np.repeat(mono, 2, axis=0)
    one, _, _ = edited(server, raw.file_of(mono, 48000))
    two, _, _ = edited(server, raw.file_of(both, 48000))
    np.testing.assert_array_equal(one, two)


# --- what is asked for --------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("samples", "own", "asked"),
    [(48001, 48000, 44100), (8001, 8000, 96000), (44101, 44100, 8000), (22050, 22050, 48000)],
)
def test_another_rate_gives_the_nearest_length(
    server: EmbeddedServer, format: str, samples: int, own: int, asked: int
) -> None:
    source = raw.file_of(raw.music(samples=samples, rate=own, channels=1), own)
    result, rate, _ = edited(server, source, sample_rate=asked, format=format)
    assert rate == asked
    assert result.shape == (2, expected_length(samples, own, asked))


def test_the_same_music_at_another_rate(server: EmbeddedServer) -> None:
    """The result is resampled, not only relabelled: a second of it sounds the same."""
    source = raw.file_of(raw.music(1), 48000)
    plain, _, _ = edited(server, source, format="wav32f")
    double, _, _ = edited(server, source, format="wav32f", sample_rate=96000)
    every_second = double[:, ::2]
    cosine = np.vdot(every_second, plain) / np.linalg.norm(every_second) / np.linalg.norm(plain)
    assert cosine > 0.99  # but for the very top of the band, which any resampler bends


# --- levels -------------------------------------------------------------------------------------


def silence() -> Waveform:
    return np.zeros((2, 48000), np.float32)


def full_scale_noise() -> Waveform:
    values = np.random.default_rng(0).uniform(-1, 1, (2, 48000))
    return np.asarray(values / np.abs(values).max(), np.float32)


def far_beyond_full_scale() -> Waveform:
    """So loud that the result, too, is beyond full scale: this checkpoint's usually is not."""
    return 9000 * full_scale_noise()


@pytest.mark.parametrize("source", [silence, full_scale_noise, far_beyond_full_scale])
@pytest.mark.parametrize("format", ["wav", "wav24", "flac"])
def test_integer_formats_never_clip_and_the_gain_tells_how(
    server: EmbeddedServer, source: Callable[[], Waveform], format: str
) -> None:
    file = raw.file_of(source(), 48000, "FLOAT")
    untouched, _, no_gain = edited(server, file, format="wav32f")
    scaled, _, gain_db = edited(server, file, format=format)
    assert no_gain == 0
    full = FULL_SCALE[format]
    peak = float(np.abs(untouched).max())
    assert (gain_db < 0) == (peak > 1) == (source is far_beyond_full_scale)
    gain = 10 ** (gain_db / 20)
    # one step for rounding; at a gain near 1 float32 has fewer digits than 24 bits
    np.testing.assert_allclose(scaled, untouched * gain, atol=1.5 / full + 1e-6)
    steps = np.rint(scaled.astype(np.float64) * full)
    assert np.abs(steps).max() <= full - 1 or peak <= 1
    if peak > 1:
        # the largest value is reached, by no more samples than had the peak: none was cut
        at_the_top = np.count_nonzero(np.abs(steps) >= full - 1)
        near_the_peak = np.count_nonzero(np.abs(untouched) > peak * (1 - 2 / full))
        assert 1 <= at_the_top <= near_the_peak


def test_info_and_outputs_agree(server: EmbeddedServer) -> None:
    source = raw.file_of(raw.music(1), 48000)
    result = raw.transform(
        server, {"audio": source, **EDIT, "sample_rate": 44100, "format": "flac"}
    )
    told = json.loads(result["info"])["parameters"]
    assert result["sample_rate"] == told["sample_rate"] == 44100
    assert told["format"] == "flac"
