"""Levels that match: each result has its source's loudness, or its peak at -1 dBTP and says so."""

import json
import math
from typing import Any

import numpy as np
import pytest

from melodyflow.audio import loudness
from melodyflow.embedded import EmbeddedServer

from . import raw
from .raw import Waveform

RATE = 44100
EDIT: dict[str, Any] = {"prompt": "a harp", "steps": 1, "regularize_iters": 0, "seed": 5}
NOISE = np.random.default_rng(0).uniform(-1, 1, (2, 2 * RATE)).astype(np.float32)


def master() -> Waveform:
    """About -7 LUFS: a chord driven into clipping."""
    return np.clip(3 * raw.music(2, RATE), -0.99, 0.99)


def at(lufs: float, wave: Waveform) -> Waveform:
    own = loudness.integrated(wave, RATE)
    assert own is not None
    return wave * np.float32(10 ** ((lufs - own) / 20))


TEN = {
    "a chord": raw.music(2, RATE),
    "a quiet chord": raw.music(2, RATE) * np.float32(0.01),
    "mono": raw.music(2, RATE, 1),
    "noise at -14": at(-14, NOISE),
    "a master at -7": at(-7, master()),
    "drum": raw.music(2, RATE) * np.exp(-(np.arange(2 * RATE) % RATE) / 3000).astype(np.float32),
    "one channel": raw.music(2, RATE) * np.array([[1], [0]], np.float32),
    "half of it silent": raw.music(2, RATE) * (np.arange(2 * RATE) > RATE).astype(np.float32),
    "0.2 s": raw.music(0.2, RATE),
    "silence": np.zeros((2, RATE), np.float32),
}


@pytest.mark.parametrize("name", TEN)
def test_as_loud_as_the_source(server: EmbeddedServer, name: str) -> None:
    source = TEN[name]
    asked = {"audio": raw.file_of(source, RATE, "FLOAT"), **EDIT, "format": "wav32f"}
    plain = raw.transform(server, asked)
    result = raw.transform(server, {**asked, "loudness": "source"})
    told = json.loads(result["info"])["loudness"]
    assert "loudness" not in json.loads(plain["info"])
    assert told["asked"] == "source"
    assert told["gain_db"] == pytest.approx(result["gain_db"], abs=1e-3)
    untouched, found = (raw.decoded(each["audio"])[0] for each in (plain, result))
    _check_whole(plain["info"], source, untouched)
    _check_whole(result["info"], source, found)
    np.testing.assert_allclose(found, untouched * 10 ** (result["gain_db"] / 20), atol=1e-5)
    if name in ("0.2 s", "silence"):
        assert (told["source_lufs"], told["gain_db"]) == (None, 0)
        return
    heard = np.repeat(source, 2 // len(source), axis=0)
    wanted, got = loudness.integrated(heard, RATE), loudness.integrated(found, RATE)
    assert told["source_lufs"] == pytest.approx(wanted, abs=0.01)
    assert told["result_lufs"] == pytest.approx(got, abs=0.01)
    peak = 20 * math.log10(loudness.true_peak(found, RATE))
    assert peak <= -0.99
    if told["limited_by"] == "peak":
        assert peak == pytest.approx(-1, abs=0.01)
    else:
        assert got == pytest.approx(wanted, abs=0.2)


def _check_whole(info: str, source: Waveform, result: Waveform) -> None:
    """The loudness of whole clip and result is told, whatever was asked for."""
    told = json.loads(info)
    heard = np.repeat(source, 2 // len(source), axis=0)
    for name, wave in (("clip_lufs", heard), ("result_lufs", result)):
        wanted = loudness.integrated(wave, RATE)
        assert told[name] == (None if wanted is None else pytest.approx(wanted, abs=0.01)), name


def test_a_number_and_a_region(server: EmbeddedServer) -> None:
    """The gain of a region is measured and applied inside of it."""
    source = raw.file_of(at(-20, raw.music(2, RATE)), RATE)
    asked = {"audio": source, **EDIT, "loudness": "-30", "format": "wav32f"}
    whole = raw.transform(server, asked)
    assert loudness.integrated(raw.decoded(whole["audio"])[0], RATE) == pytest.approx(-30, abs=0.2)
    part = raw.transform(server, {**asked, "start": 0.5, "end": 1.5})
    inside = raw.decoded(part["audio"])[0][:, RATE // 2 + 441 : RATE * 3 // 2 - 441]
    assert loudness.integrated(inside, RATE) == pytest.approx(-30, abs=0.2)
    told = json.loads(part["info"])
    assert told["parameters"]["loudness"] == "-30"
    assert told["loudness"]["source_lufs"] == pytest.approx(-20, abs=0.5)
    _check_whole(part["info"], raw.decoded(source)[0], raw.decoded(part["audio"])[0])


def test_text_to_music_at_a_number(server: EmbeddedServer) -> None:
    asked = {"prompt": "a harp", "duration": 2.0, "steps": 2, "encoding": "raw"}
    result = raw.transform(server, {**asked, "loudness": "-25.5", "format": "flac"})
    told = json.loads(result["info"])["loudness"]
    assert (told["source_lufs"], told["limited_by"]) == (None, None)
    whole = json.loads(result["info"])
    assert whole["clip_lufs"] is None
    assert whole["result_lufs"] == pytest.approx(-25.5, abs=0.2)
    assert loudness.integrated(raw.decoded(result["audio"])[0], 48000) == pytest.approx(
        -25.5, abs=0.2
    )
