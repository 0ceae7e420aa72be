"""Takes and text-to-music against the real server: seeds, and what the takes share."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melodyflow.embedded import EmbeddedServer
from melodyflow_client import AsyncMelodyFlowClient, InvalidRequest, MelodyFlowClient

RATE = 44100


def clip(seconds: float, frequency: float) -> tuple[np.ndarray, int]:
    """A fading tone, [1, samples]; tests differ in its frequency, so that they share nothing."""
    t = np.arange(int(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * frequency * t) * np.exp(-t) * 0.3
    return wave.astype(np.float32)[None], RATE


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[MelodyFlowClient]:
    with MelodyFlowClient(server.grpc_url) as made:
        yield made


def test_takes_differ_share_the_encoding_and_can_be_asked_for_again(
    client: MelodyFlowClient,
) -> None:
    source = clip(1, 311)
    takes = {
        done.seed: done.result
        for done in client.takes(
            source, 4, variation="celtic", seed=40, steps=4, format="wav32f", concurrency=2
        )
        if done.result
    }
    assert sorted(takes) == [40, 41, 42, 43]
    assert len({result.audio for result in takes.values()}) == 4
    shared = [result.info["shared"] for result in takes.values()]
    assert sum("encoding" in found for found in shared) == 3
    for seed, result in takes.items():
        assert (result.seed, result.waveform.shape[1]) == (seed, RATE)
    again = client.transform(source, variation="celtic", seed=42, steps=4, format="wav32f")
    difference = np.abs(again.waveform - takes[42].waveform).max()
    assert difference <= 1e-4 * again.peak


def test_a_refused_take_says_what_the_server_said(client: MelodyFlowClient) -> None:
    for done in client.takes(clip(0.5, 330), 2, prompt="  ", seed=1, steps=2):
        assert isinstance(done.error, InvalidRequest)
        assert done.error.message.startswith("prompt: ")


def test_text_to_music_is_as_long_as_asked_for(client: MelodyFlowClient) -> None:
    stages = []
    asked = {"duration": 1.5, "steps": 4, "seed": 7}
    result = client.generate(
        "solo cello", **asked, on_progress=lambda event: stages.append(event.stage)
    )
    assert result.waveform.shape[1] == round(1.5 * result.sample_rate)
    assert result.seed == 7
    assert "generating" in stages
    assert not {"encoding", "inverting"} & set(stages)
    assert client.generate("solo cello", **asked).audio == result.audio
    assert client.generate("solo oboe", **asked).audio != result.audio
    named = client.generate(variation="celtic", duration=0.5, steps=2, sample_rate=RATE)
    assert (named.waveform.shape[1], named.variation) == (RATE // 2, "celtic")


def test_text_to_music_the_async_twin(server: EmbeddedServer) -> None:
    async def run() -> int:
        async with AsyncMelodyFlowClient(server.grpc_url) as client:
            result = await client.generate("solo cello", duration=0.5, steps=2)
            with pytest.raises(InvalidRequest, match=r"^duration: "):
                await client.generate("solo cello", duration=1e6, steps=2)
            return result.waveform.shape[1]

    assert asyncio.run(run()) > 0


def test_the_commands(server: EmbeddedServer, tmp_path: Path) -> None:
    def melodyflow(*arguments: str) -> str:
        command = [sys.executable, "-m", "melodyflow_client", *arguments]
        done = subprocess.run(
            [*command, "--server", server.grpc_url, "--quiet"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    array, rate = clip(1, 349)
    soundfile.write(tmp_path / "riff.wav", array.T, rate)
    out = melodyflow(
        *("takes", "riff.wav", "--variation", "celtic", "--count", "2"),
        *("--seed", "7", "--steps", "2", "-o", "out", "--format", "flac"),
    )
    assert sorted(out.splitlines()) == ["out/riff-celtic-7.flac", "out/riff-celtic-8.flac"]
    assert soundfile.info(tmp_path / "out/riff-celtic-8.flac").frames == rate
    out = melodyflow(
        *("generate", "--prompt", "solo cello", "--duration", "1", "--steps", "2"),
        *("-o", "cello.wav", "--json"),
    )
    facts = json.loads(out)
    assert facts["seconds"] == pytest.approx(1, abs=1e-3)
    assert soundfile.info(tmp_path / "cello.wav").frames == facts["samples"]
