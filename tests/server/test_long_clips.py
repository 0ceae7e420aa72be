"""Clips longer than the network's window of 30 s: exact, shared calls, the oracle's result."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from melodyflow.embedded import EmbeddedServer

from . import oracle, raw
from .raw import Waveform

CHEAP: dict[str, Any] = {"prompt": "a harp", "steps": 1, "regularize_iters": 0, "seed": 5}


def test_three_minutes_come_back_to_the_sample(server: EmbeddedServer) -> None:
    samples = 180 * 44100 + 1
    source = raw.file_of(raw.music(samples=samples, rate=44100, channels=1), 44100)
    result = raw.transform(server, {"audio": source, **CHEAP, "format": "flac"})
    waveform, rate = raw.decoded(result["audio"])
    assert rate == 44100
    assert waveform.shape == (2, samples)
    loudness = [np.abs(part).mean() for part in np.array_split(waveform, 180, axis=1)]
    assert min(loudness) > 0.1 * max(loudness), "there is music everywhere"


def test_long_and_short_clips_together_equal_the_oracle(
    server: EmbeddedServer, checkpoint: Path
) -> None:
    kinds: list[dict[str, Any]] = [
        {"seconds": 47.3},
        {"seconds": 2.0},
        {"seconds": 31.0, "flowstep": 0.5},
        {"seconds": 5.0, "regularize_iters": 4, "keep_last_k_iters": 2},
    ]
    clips = [raw.file_of(raw.music(kind.pop("seconds")), 48000) for kind in kinds]
    asked = [{"prompt": "a harp", "seed": 7, "steps": 2, **kind} for kind in kinds]

    def edited(clip: bytes, inputs: dict[str, Any]) -> Waveform:
        result = raw.transform(server, {"audio": clip, "format": "wav32f", **inputs})
        return raw.decoded(result["audio"])[0]

    with ThreadPoolExecutor(len(kinds)) as pool:
        results = list(pool.map(edited, clips, asked))
    for clip, inputs, found in zip(clips, asked, results, strict=True):
        expected = oracle.edited(checkpoint, clip, **inputs)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
