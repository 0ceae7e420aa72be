"""To the model's rate and channels and back: exact lengths, and loops that close."""

import tracemalloc

import numpy as np
import pytest

from melodyflow import audio
from melodyflow.audio import Audio
from melodyflow.audio.resampling import resample_loop

from .files import encoded, noise, read


def test_lengths_in_integers():
    assert audio.model_length(44100, 44100, 48000) == 48000
    assert audio.model_length(44101, 44100, 48000) == 48002
    assert audio.model_length(1, 192000, 48000) == 1
    assert audio.model_length(48001, 48000, 48000) == 48001
    assert audio.result_length(48001, 48000, 48000) == 48001
    assert audio.result_length(3, 48000, 24000) == 2  # 1.5 is rounded up
    assert audio.result_length(2**40 + 1, 44100, 44100) == 2**40 + 1  # beyond float32, exact


def test_equal_rates_leave_the_samples_alone():
    source = read(encoded(noise()))
    there = audio.to_model(source, sample_rate=48000, channels=2)
    np.testing.assert_array_equal(there, source.samples)
    back = audio.from_model(there, model_rate=48000, extent=source.extent, sample_rate=48000)
    np.testing.assert_array_equal(back, source.samples)


def tones(rate, samples, channels):
    """Band-limited below 3 kHz, silent at both ends: any resampler can keep it."""
    seconds = np.arange(samples) / rate
    window = np.sin(np.pi * np.arange(samples) / samples) ** 2
    waves = [
        window * sum(np.sin(2 * np.pi * (f + 31 * c) * seconds) for f in (220, 997, 2900)) / 4
        for c in range(channels)
    ]
    return np.stack(waves).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("extra", [0, 1])
def test_round_trip_keeps_length_time_and_content(rate, extra):
    source = Audio(tones(rate, rate // 2 + extra, 2), rate, "FLOAT")
    there = audio.to_model(source, sample_rate=48000, channels=2)
    assert there.shape == (2, audio.model_length(rate // 2 + extra, rate, 48000))
    np.testing.assert_allclose(there, tones_like(there, rate, rate // 2 + extra), atol=1e-4)
    untrimmed = np.pad(there, ((0, 0), (0, -there.shape[1] % 1920)))
    back = audio.from_model(untrimmed, model_rate=48000, extent=source.extent, sample_rate=rate)
    assert back.shape == source.samples.shape
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, source.samples, atol=1e-4)


def tones_like(waveform, rate, samples):
    """tones(rate, samples) as a function of time, sampled at 48 kHz."""
    seconds = np.arange(waveform.shape[1]) / 48000
    window = np.sin(np.pi * np.minimum(seconds * rate / samples, 1)) ** 2
    return np.stack(
        [
            window * sum(np.sin(2 * np.pi * (f + 31 * c) * seconds) for f in (220, 997, 2900)) / 4
            for c in range(waveform.shape[0])
        ]
    )


@pytest.mark.parametrize("own", [8000, 22050, 44100, 47999, 48000, 96000, 192000])
@pytest.mark.parametrize("asked", [8000, 22050, 44100, 48000, 96000, 191999, 192000])
@pytest.mark.parametrize("model", [16000, 32000, 44100, 48000])
def test_results_have_the_exact_length(own, asked, model):
    for samples in (own // 10, own // 7 + 1):
        source = Audio(np.zeros((1, samples), np.float32), own, "PCM_16")
        there = audio.to_model(source, sample_rate=model, channels=2)
        assert there.shape == (2, -(-samples * model // own))
        back = audio.from_model(there, model_rate=model, extent=source.extent, sample_rate=asked)
        assert back.shape == (2, (2 * samples * asked + own) // (2 * own))


def test_channels():
    mono, stereo = (Audio(noise(c), 48000, "PCM_16") for c in (1, 2))
    there = audio.to_model(mono, sample_rate=48000, channels=2)
    np.testing.assert_array_equal(there, np.repeat(mono.samples, 2, axis=0))
    mean = audio.to_model(stereo, sample_rate=48000, channels=1)
    np.testing.assert_allclose(mean[0], stereo.samples.mean(0), atol=1e-7)
    out = {
        (source.samples.shape[0], codec): audio.from_model(
            noise(codec), model_rate=48000, extent=source.extent, sample_rate=48000
        )
        for source in (mono, stereo)
        for codec in (1, 2)
    }
    assert {pair: wave.shape[0] for pair, wave in out.items()} == {
        (1, 1): 1,
        (1, 2): 2,
        (2, 1): 2,
        (2, 2): 2,
    }
    np.testing.assert_array_equal(out[2, 1][0], out[2, 1][1])


def test_from_model_refuses_to_invent_what_the_codec_did_not_give():
    source = Audio(noise(2, 9600), 48000, "PCM_16")
    with pytest.raises(ValueError, match="decoded: 9599 samples; needs at least 9600"):
        audio.from_model(noise(2, 9599), model_rate=48000, extent=source.extent, sample_rate=48000)


@pytest.mark.parametrize(
    ("samples", "own", "frames"),
    [(4800, 48000, 3), (4799, 48000, 2), (88200, 44100, 50), (89082, 44100, 51), (1, 8000, 1)],
)
def test_a_loop_gets_the_nearest_whole_frames(samples, own, frames):
    assert audio.loop_length(samples, own, 48000, 1920) == frames * 1920


@pytest.mark.parametrize(("samples", "rate"), [(44100, 44100), (44101, 44100), (31999, 16000)])
def test_a_loop_there_and_back_is_the_same_and_closes(samples, rate):
    """Periods that fit into the loop stay sines, also over its end."""
    turns = 2 * np.pi * np.arange(samples) / samples
    wave = np.sin(440 * turns)[None].astype(np.float32)
    source = Audio(wave, rate, "FLOAT")
    there = audio.to_model(source, sample_rate=48000, channels=1, loop_hop=1920)
    assert there.shape[1] % 1920 == 0
    around = 2 * np.pi * np.arange(there.shape[1]) / there.shape[1]
    np.testing.assert_allclose(there[0], np.sin(440 * around), atol=1e-4)
    back = audio.from_model(
        there, model_rate=48000, extent=source.extent, sample_rate=rate, loop=True
    )
    np.testing.assert_allclose(back, wave, atol=1e-4)


@pytest.mark.parametrize(
    ("own", "new"), [(800, 1280), (1280, 800), (4799, 4800), (3528, 1280), (192001, 190080)]
)
def test_a_loop_keeps_its_highs(own, new):
    """At nine tenths of the lower rate's half."""
    turns = int(0.45 * min(own, new)) * 2 * np.pi
    wave = np.cos(turns * np.arange(own) / own)[None].astype(np.float32)
    made = resample_loop(wave, new)
    np.testing.assert_allclose(made[0], np.cos(turns * np.arange(new) / new), atol=1e-3)


def test_a_loop_takes_memory_for_its_lap_alone():
    """Also where its length has no small factors: ten minutes of them must not fill the machine."""
    wave = np.zeros((1, 4_000_037), np.float32)
    tracemalloc.start()
    made = resample_loop(wave, 4_000_320)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < made.nbytes + 24 * 2**20
