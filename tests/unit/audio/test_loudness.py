"""Loudness and true peak against the values that EBU Tech 3341 and ITU-R BS.1770-4 publish."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from melodyflow.audio import loudness

Wave = NDArray[np.float32]
RATES = [16000, 44100, 48000, 96000]


def tone(dbfs: float, seconds: float, rate: int = 48000, channels: int = 2) -> Wave:
    """1 kHz whose peak is at `dbfs`."""
    t = np.arange(round(seconds * rate)) / rate
    one = 10 ** (dbfs / 20) * np.sin(2 * np.pi * 1000 * t)
    return np.repeat(one[None], channels, axis=0).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    ("parts", "lufs"),
    [
        pytest.param([(-23, 20)], -23.0, id="3341 case 1"),
        pytest.param([(-33, 20)], -33.0, id="case 2"),
        pytest.param([(-36, 10), (-23, 60), (-36, 10)], -23.0, id="case 3"),
        pytest.param([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0, id="case 4"),
        pytest.param([(-26, 20), (-20, 20.1), (-26, 20)], -23.0, id="case 5"),
    ],
)
def test_ebu_3341(parts: list[tuple[float, float]], lufs: float, rate: int) -> None:
    wave = np.concatenate([tone(dbfs, seconds, rate) for dbfs, seconds in parts], axis=1)
    assert loudness.integrated(wave, rate) == pytest.approx(lufs, abs=0.1)


def test_one_channel_at_full_scale() -> None:
    """BS.1770-4, annex 1: 0 dBFS at 997 Hz in one channel is -3.01 LKFS."""
    t = np.arange(5 * 48000) / 48000
    wave = np.sin(2 * np.pi * 997 * t)[None].astype(np.float32)
    assert loudness.integrated(wave, 48000) == pytest.approx(-3.01, abs=0.01)
    assert loudness.integrated(wave, 48000, repeats=2) == pytest.approx(0.0, abs=0.01)
    both = np.concatenate((wave, 0 * wave))
    assert loudness.integrated(both, 48000) == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("frequency", [20, 40, 100, 500, 2000, 8000, 16000])
def test_k_weighting_is_the_standards_at_48_khz(frequency: float) -> None:
    """The coefficients of BS.1770-4, tables 1 and 2."""
    z = np.exp(-2j * np.pi * frequency / 48000)
    shelf = (1.53512485958697 - 2.69169618940638 * z + 1.19839281085285 * z**2) / (
        1 - 1.69065929318241 * z + 0.73248077421585 * z**2
    )
    passed = (1 - 2 * z + z**2) / (1 - 1.99004745483398 * z + 0.99007225036621 * z**2)
    found = loudness._k_weighting(np.array([frequency / 48000]), 48000)[0]
    assert abs(found) == pytest.approx(abs(shelf * passed), rel=1e-6)


def test_pieces_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 5 * 44100)).astype(np.float32)
    noise *= np.linspace(0.1, 1, noise.shape[1], dtype=np.float32)
    whole = loudness.integrated(noise, 44100), loudness.true_peak(noise, 44100)
    monkeypatch.setattr(loudness, "PIECE", 0.7)
    assert loudness.integrated(noise, 44100) == pytest.approx(whole[0], abs=1e-5)
    assert loudness.true_peak(noise, 44100) == pytest.approx(whole[1], rel=1e-4)


@pytest.mark.parametrize("frequency", [50.0, 100.0, 440.0])
def test_the_end_of_a_piece_is_not_a_peak(frequency: float) -> None:
    """A cut through a crest of the bass rings when it is oversampled; so does a part's end."""
    n = np.arange(12 * 48000)
    margin = 8.1  # a crest lies where the first piece and what it hears behind itself end
    wave = 0.5 * np.cos(2 * np.pi * frequency * (n / 48000 - margin))
    wave *= np.minimum(1, np.minimum(n, n[::-1]) / 480)
    wave = wave[None].astype(np.float32)
    assert 20 * math.log10(loudness.true_peak(wave, 48000)) == pytest.approx(-6.02, abs=0.01)
    crest = round(margin * 48000)
    part = (crest - 48000, crest + 1)
    assert 20 * math.log10(loudness.true_peak(wave, 48000, part)) == pytest.approx(-6.02, abs=0.01)


@pytest.mark.parametrize(
    ("divisor", "degrees", "amplitude", "dbtp"),
    [
        pytest.param(4, 0, 0.5, -6.0, id="3341 case 15"),
        pytest.param(4, 45, 0.5, -6.0, id="case 16"),
        pytest.param(6, 60, 0.5, -6.0, id="case 17"),
        pytest.param(8, 67.5, 0.5, -6.0, id="case 18"),
        pytest.param(4, 45, 1.41, 3.0, id="case 19"),
    ],
)
def test_true_peak_between_the_samples(
    divisor: int, degrees: float, amplitude: float, dbtp: float
) -> None:
    n = np.arange(48000)
    wave = amplitude * np.sin(2 * np.pi * n / divisor + math.radians(degrees))
    wave *= np.minimum(1, np.minimum(n, n[::-1]) / 480)  # a tone that begins softly
    found = 20 * math.log10(loudness.true_peak(wave[None].astype(np.float32), 48000))
    assert dbtp - 0.4 <= found <= dbtp + 0.2


@pytest.mark.parametrize("samples", [0, 4800, 4 * 4800 - 1])
def test_under_a_block_there_is_no_loudness(samples: int) -> None:
    wave = tone(-20, 1)[:, :samples]
    assert loudness.integrated(wave, 48000) is None
    assert loudness.match("-14", wave, 48000, None).gain_db == 0


def test_silence_has_no_loudness_and_asks_for_none() -> None:
    assert loudness.integrated(np.zeros((2, 48000), np.float32), 48000) is None
    assert loudness.integrated(tone(-80, 2), 48000) is None
    assert loudness.match("source", tone(-20, 2), 48000, None).gain_db == 0
    assert loudness.match("-14", np.zeros((2, 48000), np.float32), 48000, -20).gain_db == 0


@pytest.mark.parametrize(("asked", "source"), [("-14", None), ("-30", -20.0), ("source", -26.0)])
def test_the_gain_gives_the_loudness_that_was_asked_for(asked: str, source: float | None) -> None:
    wave = tone(-20, 2)
    matched = loudness.match(asked, wave, 48000, source)
    target = source if asked == "source" else float(asked)
    found = loudness.integrated(wave * np.float32(10 ** (matched.gain_db / 20)), 48000)
    assert found == pytest.approx(target, abs=0.01)
    assert matched.result_lufs == pytest.approx(target, abs=0.01)
    assert matched.limited_by is None


def test_the_peak_wins_and_is_reported() -> None:
    wave = tone(-20, 2)
    wave[:, 40000] = 0.9
    matched = loudness.match("-10", wave, 48000, None)
    louder = wave * np.float32(10 ** (matched.gain_db / 20))
    assert matched.limited_by == "peak"
    assert 20 * math.log10(loudness.true_peak(louder, 48000)) == pytest.approx(-1, abs=0.01)
    assert matched.result_lufs == pytest.approx(loudness.integrated(louder, 48000), abs=0.01)
