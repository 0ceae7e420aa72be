"""Sweeps against the real server: one inversion for all, failures apart, cancelled when left."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melodyflow.embedded import EmbeddedServer
from melodyflow_client import AsyncMelodyFlowClient, InvalidRequest, MelodyFlowClient

RATE = 44100
FIVE = ["celtic", "chiptune", "music_box", "strings_quartet", "trap_808"]
Metrics = Callable[[], dict[str, float]]


def clip(seconds: float, frequency: float) -> tuple[np.ndarray, int]:
    """A fading tone, [1, samples]; tests differ in its frequency, so that they share nothing."""
    t = np.arange(int(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * frequency * t) * np.exp(-t) * 0.3
    return wave.astype(np.float32)[None], RATE


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of variations, one of which the server refuses."""
    path = tmp_path / "own.json"
    variations = {"kazoo": {"prompt": "Kazoo choir, silly."}, "blank": {"prompt": "   "}}
    path.write_text(json.dumps({"variations": variations}))
    return path


@pytest.fixture
def client(server: EmbeddedServer, own: Path) -> Iterator[MelodyFlowClient]:
    with MelodyFlowClient(server.grpc_url, presets=own) as made:
        yield made


def found(metrics: Metrics) -> dict[str, float]:
    """Inversions so far, by how they were found."""
    now = metrics()
    kinds = ("miss", "hit", "shared")
    return {kind: now[f'melodyflow_inversions_total{{found="{kind}"}}'] for kind in kinds}


def settled(reading: Callable[[], object], wanted: object) -> bool:
    """Whether a reading takes a value within some seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if reading() == wanted:
            return True
        time.sleep(0.05)
    return False


def test_one_inversion_serves_all_and_each_is_what_it_is_alone(
    client: MelodyFlowClient, metrics: Metrics
) -> None:
    source, before = clip(1, 220), found(metrics)
    results = {
        done.variation: done.result
        for done in client.sweep(source, FIVE, steps=4, format="wav32f")
        if done.result
    }
    assert sorted(results) == FIVE
    assert settled(lambda: found(metrics)["miss"] - before["miss"], 1)
    after = found(metrics)
    assert after["hit"] + after["shared"] - before["hit"] - before["shared"] == 4
    assert len({result.seed for result in results.values()}) == 1
    assert len({result.audio for result in results.values()}) == 5
    for result in results.values():
        assert (result.sample_rate, result.waveform.shape[1]) == (RATE, RATE)
    alone = client.transform(source, variation="celtic", steps=4, format="wav32f")
    difference = np.abs(alone.waveform - results["celtic"].waveform).max()
    assert difference <= 1e-4 * alone.peak


def test_a_refused_variation_harms_no_other(client: MelodyFlowClient) -> None:
    names = ["celtic", "blank", "kazoo", "chiptune"]
    done = {done.variation: done for done in client.sweep(clip(0.5, 247), names, steps=2)}
    assert sorted(done) == sorted(names)
    assert [name for name in names if done[name].result is None] == ["blank"]
    refused = done["blank"].error
    assert isinstance(refused, InvalidRequest)
    assert refused.message.startswith("prompt: ")
    assert refused.status == "INVALID_ARGUMENT"


@pytest.mark.parametrize("way", ["sync", "async"])
def test_leaving_ends_the_others_on_the_server(
    client: MelodyFlowClient, server: EmbeddedServer, metrics: Metrics, way: str
) -> None:
    async def leave() -> None:
        async with AsyncMelodyFlowClient(server.grpc_url, presets=client.presets) as aio:
            sweep = aio.sweep(source, ["blank", *FIVE], steps=128)
            async with aclosing(sweep) as results:
                assert (await anext(results)).variation == "blank"
                await asyncio.to_thread(settled, in_flight, True)

    def in_flight() -> bool:
        return metrics()["melodyflow_edits_in_flight"] > 0

    source = clip(5, 262 if way == "sync" else 277)
    if way == "sync":
        for done in client.sweep(source, ["blank", *FIVE], steps=128):
            assert done.variation == "blank"
            assert settled(in_flight, True)
            break
    else:
        asyncio.run(leave())
    assert settled(in_flight, False)
    time.sleep(0.2)
    assert not in_flight()  # none is sent after the others


def melodyflow(server: EmbeddedServer, cwd: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "melodyflow_client", *arguments, "--server", server.grpc_url],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command(server: EmbeddedServer, metrics: Metrics, own: Path, tmp_path: Path) -> None:
    array, rate = clip(1, 294)
    soundfile.write(tmp_path / "riff.wav", array.T, rate, subtype="PCM_24")
    before = found(metrics)
    options = ["--steps", "4", "--seed", "3", "--format", "flac", "-o", "out"]
    names = [word for name in FIVE for word in ("--variation", name)]
    code, out, err = melodyflow(server, tmp_path, "sweep", "riff.wav", *names, *options)
    assert code == 0, err
    assert sorted(out.splitlines()) == [f"out/riff-{name}.flac" for name in FIVE]
    for line in out.splitlines():
        info = soundfile.info(tmp_path / line)
        assert (info.format, info.frames, info.samplerate) == ("FLAC", rate, rate)
    assert all(f"{name}: done\n" in err for name in FIVE)
    assert err.splitlines()[-1] == "5 of 5 done, seed 3"
    assert settled(lambda: found(metrics)["miss"] - before["miss"], 1)

    code, out, err = melodyflow(
        server, tmp_path, "sweep", "riff.wav", "--all", "--presets", str(own), "--json", *options
    )
    assert code == 2
    facts = {fact["variation"]: fact for fact in map(json.loads, out.splitlines())}
    assert len(facts) == 35
    assert [name for name, fact in facts.items() if "error" in fact] == ["blank"]
    assert facts["celtic"]["output"] == "out/riff-celtic-2.flac"
    assert err.splitlines()[-1].startswith("melodyflow: blank: prompt: ")
    assert len(list((tmp_path / "out").iterdir())) == 5 + 34
    assert settled(lambda: found(metrics)["miss"] - before["miss"], 1)  # the first sweep's, kept
