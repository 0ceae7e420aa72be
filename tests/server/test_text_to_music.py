"""Text-to-music: no source, a duration and a prompt."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from melodyflow.embedded import EmbeddedServer

from . import oracle, raw

ASKED: dict[str, Any] = {"prompt": "a harp", "duration": 2.34, "steps": 4, "seed": 5}


@pytest.mark.parametrize("transport", [raw.over_grpc, raw.over_generate, raw.over_generate_stream])
def test_as_long_as_asked_and_as_the_oracle(
    server: EmbeddedServer, checkpoint: Path, transport: Any
) -> None:
    responses = transport(server, {**ASKED, "format": "wav32f", "encoding": "base64"})
    result = responses[-1].outputs
    waveform, rate = raw.decoded(base64.b64decode(result["audio"]))
    assert rate == result["sample_rate"] == 48000
    assert waveform.shape == (2, round(2.34 * 48000))
    expected = oracle.generated(checkpoint, waveform.shape[1], solver="midpoint", **ASKED)
    assert np.abs(waveform - expected).max() <= 1e-4 * np.abs(expected).max()
    assert (result["seed"], result["step"]) == (5, [4, 4])
    told = json.loads(result["info"])
    assert told["parameters"]["duration"] == 2.34
    assert told["parameters"]["solver"] == "midpoint"
    assert "flowstep" not in told["parameters"]
    stages = [response.outputs["stage"] for response in responses]
    assert set(stages) <= {b"generating", b"decoding", b"done"}


def test_another_rate_and_a_length_beyond_the_window(server: EmbeddedServer) -> None:
    asked = {**ASKED, "duration": 33.3, "steps": 2, "sample_rate": 44100, "encoding": "raw"}
    result = raw.transform(server, asked)
    waveform, rate = raw.decoded(result["audio"])
    assert rate == 44100
    assert waveform.shape == (2, round(33.3 * 44100))
    assert np.abs(waveform).max() > 0
    assert b"AI-generated music. Prompt: a harp" in result["audio"]
