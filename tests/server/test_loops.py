"""Loops: the result has the loop's length and is the oracle's, whatever the rates."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodyflow.embedded import EmbeddedServer

from . import oracle, raw

EDIT: dict[str, Any] = {"prompt": "a harp", "steps": 2, "seed": 5, "loop": True}


@pytest.mark.parametrize(
    ("samples", "rate", "asked"),
    [(4800, 48000, None), (44101, 44100, None), (100_001, 44100, 48000), (96000, 48000, 32000)],
)
def test_a_loop_keeps_its_length(
    server: EmbeddedServer, checkpoint: Path, samples: int, rate: int, asked: int | None
) -> None:
    source = raw.file_of(raw.music(samples=samples, rate=rate), rate)
    inputs = {"audio": source, **EDIT, "format": "wav32f"}
    if asked:
        inputs["sample_rate"] = asked
    result = raw.transform(server, inputs)
    waveform, found_rate = raw.decoded(result["audio"])
    assert found_rate == (asked or rate)
    assert waveform.shape[1] == (2 * samples * found_rate + rate) // (2 * rate)
    assert json.loads(result["info"])["parameters"]["loop"] is True
    if not asked:
        expected = oracle.edited(checkpoint, source, **EDIT)
        assert np.abs(waveform - expected).max() <= 1e-4 * np.abs(expected).max()
