"""A region: what is outside of it stays, what is inside is the oracle's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from melodyflow.embedded import EmbeddedServer

from . import oracle, raw

REGION: dict[str, Any] = {"start": 0.7, "end": 1.4}
EDIT: dict[str, Any] = {"prompt": "a harp", "steps": 2, "seed": 5, **REGION}
FADE = 0.01  # seconds
RATE = 44100
FIRST, LAST = round(0.7 * RATE), round(1.4 * RATE)


def integers(file: bytes, bits: int) -> NDArray[np.float64]:
    return np.rint(raw.decoded(file)[0].astype(np.float64) * 2 ** (bits - 1))


@pytest.mark.parametrize(
    ("stored", "format", "bits"),
    [
        ("PCM_16", "wav", 16),
        ("PCM_16", "flac", 24),
        ("PCM_16", "wav32f", 16),
        ("PCM_24", "wav24", 24),
        ("PCM_24", "flac", 24),
        ("PCM_24", "wav32f", 24),
        ("PCM_24", "wav", 16),  # less deep: to that format's rounding
        ("FLOAT", "wav24", 24),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_outside_every_sample_is_the_sources(
    server: EmbeddedServer, stored: str, format: str, bits: int, channels: int
) -> None:
    source = raw.file_of(raw.music(2, RATE, channels), RATE, stored)
    result = raw.transform(server, {"audio": source, **EDIT, "format": format})
    found, expected = integers(result["audio"], bits), integers(source, bits)
    assert found.shape == (2, expected.shape[1])
    expected = np.broadcast_to(expected, found.shape)
    np.testing.assert_array_equal(found[:, :FIRST], expected[:, :FIRST])
    np.testing.assert_array_equal(found[:, LAST:], expected[:, LAST:])
    assert (found[:, FIRST:LAST] != expected[:, FIRST:LAST]).mean() > 0.9


def test_inside_it_is_the_oracles(server: EmbeddedServer, checkpoint: Path) -> None:
    source = raw.file_of(raw.music(2, RATE), RATE)
    result = raw.transform(server, {"audio": source, **EDIT, "format": "wav32f"})
    expected = oracle.edited(checkpoint, source, **EDIT)
    fade = round(FADE * RATE)
    inside = slice(FIRST + fade, LAST - fade)
    found = raw.decoded(result["audio"])[0]
    difference = np.abs(found[:, inside] - expected[:, inside]).max()
    assert difference <= 1e-4 * np.abs(expected).max()


def test_a_loud_result_is_turned_down_inside_alone(server: EmbeddedServer) -> None:
    """The source is within full scale; what a random checkpoint makes of it need not be."""
    source = raw.file_of(4 * raw.music(2, RATE) / np.abs(4 * raw.music(2, RATE)).max(), RATE)
    asked = {"audio": source, **EDIT, "guidance": 10.0}
    loud = raw.transform(server, {**asked, "format": "wav32f"})
    peak = np.abs(raw.decoded(loud["audio"])[0][:, FIRST:LAST]).max()
    result = raw.transform(server, asked)
    assert (result["gain_db"] < 0) == (peak > 1)
    outside = integers(result["audio"], 16)[:, :FIRST]
    np.testing.assert_array_equal(outside, integers(source, 16)[:, :FIRST])


def test_to_the_ends_of_the_clip(server: EmbeddedServer) -> None:
    source = raw.file_of(raw.music(2, RATE), RATE)
    for region in ({"start": 1.0}, {"end": 0.5}):
        asked = {k: v for k, v in EDIT.items() if k not in REGION} | region
        result = integers(raw.transform(server, {"audio": source, **asked})["audio"], 16)
        kept = slice(0, RATE) if "start" in region else slice(RATE // 2, None)
        same = result == integers(source, 16)
        assert same[:, kept].all()
        assert same.mean() < 0.9
