"""The clients and the command against the real server."""

import asyncio
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from melodyflow.embedded import EmbeddedServer
from melodyflow_client import (
    AsyncMelodyFlowClient,
    DeadlineExceeded,
    InvalidRequest,
    MelodyFlowClient,
    Progress,
    Result,
)

RATE = 44100
Metrics = Callable[[], dict[str, float]]


def clip(seconds: float = 1.0) -> tuple[np.ndarray, int]:
    """A stereo chord that fades, [2, samples], and its rate, which is not the model's."""
    t = np.arange(int(seconds * RATE)) / RATE
    waves = [np.sin(2 * np.pi * f * t) * np.exp(-t) * 0.3 for f in (220.0, 277.2)]
    return np.stack(waves).astype(np.float32), RATE


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[MelodyFlowClient]:
    with MelodyFlowClient(server.grpc_url, metrics_url=server.metrics_url) as made:
        yield made


def settled(metrics: Metrics, name: str, wanted: float) -> bool:
    """Whether a metric takes a value within some seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if metrics().get(name, 0.0) == wanted:
            return True
        time.sleep(0.05)
    return False


def test_a_variation_comes_back_as_long_and_at_the_rate(client: MelodyFlowClient) -> None:
    array, rate = clip()
    result = client.transform((array, rate), variation="strings_quartet")
    assert result.sample_rate == rate
    assert result.waveform.shape == array.shape
    assert 0 < result.peak <= 1
    assert result.variation == "strings_quartet"
    parameters = result.info["parameters"]
    assert parameters["prompt"] == client.presets["strings_quartet"].prompt
    assert (parameters["solver"], parameters["steps"]) == ("euler", 25)
    assert parameters["seed"] == result.seed


def test_the_stream_begins_queued_goes_through_the_stages_and_never_falls(
    client: MelodyFlowClient,
) -> None:
    events = list(client.stream(clip(), variation="celtic"))
    progress = [event for event in events if isinstance(event, Progress)]
    assert isinstance(events[-1], Result)
    assert len(progress) == len(events) - 1
    stages = list(dict.fromkeys(event.stage for event in progress))
    assert stages[0] == "queued"
    order = ["queued", "encoding", "inverting", "generating", "decoding"]
    assert stages == [stage for stage in order if stage in stages]
    assert {"inverting", "generating"} <= set(stages)
    shares = [event.progress for event in progress]
    assert shares == sorted(shares)
    assert shares[-1] < 1
    assert progress[-1].total == 25 * 3


def test_the_same_seed_gives_the_same_bytes_and_a_clip_keeps_its_seed(
    client: MelodyFlowClient, server: EmbeddedServer
) -> None:
    first = client.transform(clip(), variation="celtic", steps=4)
    assert client.transform(clip(), variation="celtic", steps=4).audio == first.audio
    with MelodyFlowClient(server.grpc_url) as other:
        again = other.transform(clip(), variation="celtic", steps=4, seed=first.seed)
        assert again.audio == first.audio
        take = other.transform(clip(), variation="celtic", steps=4, new_take=True)
        assert take.seed != first.seed
        assert take.audio != first.audio


def test_previews_come_with_progress_and_change_nothing(
    server: EmbeddedServer, client: MelodyFlowClient, tmp_path: Path
) -> None:
    options = {"prompt": "a harp", "steps": 64, "seed": 3}
    plain = client.transform(clip(), **options)
    told: list[Progress] = []
    result = client.transform(clip(), previews=4, on_progress=told.append, **options)
    assert result.audio == plain.audio
    assert [event.progress for event in told] == sorted(event.progress for event in told)
    previews = [event.preview for event in told if event.preview is not None]
    assert 1 <= len(previews) <= 4
    for preview in previews:
        assert (preview.container, preview.sample_rate) == ("flac", result.sample_rate)
        assert preview.waveform.shape == result.waveform.shape
        assert 0 < preview.step < preview.total
        assert preview.info["clip_lufs"] == result.info["clip_lufs"]
        assert preview.info["result_lufs"] < 0
        assert preview.save(tmp_path / "preview.flac").read_bytes() == preview.audio

    async def streamed() -> list[Progress | Result]:
        async with AsyncMelodyFlowClient(server.grpc_url) as aio:
            return [event async for event in aio.stream(clip(), previews=4, **options)]

    *before, last = asyncio.run(streamed())
    assert isinstance(last, Result)
    assert last.audio == plain.audio
    assert any(isinstance(event, Progress) and event.preview for event in before)


def test_another_solver_takes_its_own_defaults(client: MelodyFlowClient) -> None:
    result = client.transform(clip(0.3), variation="celtic", solver="midpoint")
    parameters = result.info["parameters"]
    assert (parameters["solver"], parameters["steps"]) == ("midpoint", 64)
    assert parameters["regularize_iters"] == 0


def test_no_regularisation_may_be_asked_of_a_variation(client: MelodyFlowClient) -> None:
    result = client.transform(clip(0.3), variation="celtic", steps=4, regularize_iters=0)
    assert result.info["parameters"]["regularize_iters"] == 0


@pytest.mark.parametrize("container", ["wav", "wav24", "wav32f", "flac"])
def test_formats_and_rates(client: MelodyFlowClient, container: str, tmp_path: Path) -> None:
    result = client.transform(clip(), prompt="x", steps=4, format=container, sample_rate=48000)
    assert result.container == ("flac" if container == "flac" else "wav")
    assert (result.sample_rate, result.waveform.shape) == (48000, (2, 48000))
    path = result.save(tmp_path / f"out.{result.container}")
    assert soundfile.info(path).samplerate == 48000


def test_all_options_reach_the_server(client: MelodyFlowClient) -> None:
    result = client.transform(
        clip(0.3),
        prompt="piano",
        source_prompt="guitar",
        strength=0.75,
        steps=6,
        solver="euler",
        guidance=2.5,
        regularize_iters=4,
        keep_last_k_iters=2,
        lambda_kl=0.1,
        seed=11,
        priority=1,
        timeout=60,
        session_id="tests",
        metadata=False,
    )
    parameters = result.info["parameters"]
    assert (parameters["prompt"], parameters["source_prompt"]) == ("piano", "guitar")
    assert (parameters["steps"], parameters["seed"]) == (6, 11)
    assert (parameters["regularize_iters"], parameters["keep_last_k_iters"]) == (4, 2)
    assert parameters["flowstep"] == pytest.approx(0.25)
    assert parameters["guidance"] == pytest.approx(2.5)
    assert parameters["lambda_kl"] == pytest.approx(0.1)
    assert b"piano" not in result.audio
    assert b"piano" in client.transform(clip(0.3), prompt="piano", steps=2).audio


def test_a_lossy_file_is_taken(client: MelodyFlowClient) -> None:
    buffer = io.BytesIO()
    array, rate = clip()
    soundfile.write(buffer, array.T, rate, format="MP3")
    result = client.transform(buffer.getvalue(), prompt="x", steps=2)
    assert (result.sample_rate, result.waveform.shape[0]) == (rate, 2)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"flowstep": 1.0}, "flowstep"),
        ({"flowstep": float("nan")}, "flowstep"),
        ({"steps": 0}, "steps"),
        ({"solver": "rk4"}, "solver"),
        ({"regularize_iters": 2, "keep_last_k_iters": 3}, "keep_last_k_iters"),
        ({"format": "ogg"}, "format"),
        ({"sample_rate": 1}, "sample_rate"),
        ({"seed": 2**40}, "seed"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_what_the_server_refuses_is_an_invalid_request_naming_the_input(
    client: MelodyFlowClient, options: dict[str, object], name: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}: ") as caught:
        client.transform(clip(), **({"prompt": "x"} | options))  # type: ignore[arg-type]
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.request_id
    assert client.transform(clip(0.2), prompt="x", steps=2).seed < 2**31


def test_too_long_a_clip_is_refused_naming_the_audio(client: MelodyFlowClient) -> None:
    with pytest.raises(InvalidRequest, match=r"^audio: "):
        client.transform(clip(201), prompt="x")


def test_the_timeout_ends_the_edit_on_the_server(
    client: MelodyFlowClient, metrics: Metrics
) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        client.transform(clip(5), prompt="x", steps=128, timeout=0.3)
    assert time.monotonic() - started < 5
    assert settled(metrics, "melodyflow_edits_in_flight", 0)


def cancelled_count(metrics: Metrics) -> float:
    return sum(
        value
        for name, value in metrics().items()
        if name.startswith("melodyflow_edits_total") and 'outcome="cancelled"' in name
    )


@pytest.mark.parametrize("way", ["break", "on_progress", "task"])
def test_leaving_cancels_the_edit_on_the_server(
    client: MelodyFlowClient, server: EmbeddedServer, metrics: Metrics, way: str
) -> None:
    before = cancelled_count(metrics)

    def leave(event: Progress) -> None:
        if event.stage == "inverting":
            raise LookupError

    async def cancel_task() -> None:
        async with AsyncMelodyFlowClient(server.grpc_url) as aio:
            begun = asyncio.Event()
            edit = aio.transform(
                clip(5),
                prompt="x",
                steps=128,
                on_progress=lambda event: begun.set() if event.stage == "inverting" else None,
            )
            task = asyncio.create_task(edit)
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    if way == "break":
        for event in client.stream(clip(5), prompt="x", steps=128):
            if isinstance(event, Progress) and event.stage == "inverting":
                break
    elif way == "on_progress":
        with pytest.raises(LookupError):
            client.transform(clip(5), prompt="x", steps=128, on_progress=leave)
    else:
        asyncio.run(cancel_task())
    until = time.monotonic() + 10
    while cancelled_count(metrics) == before and time.monotonic() < until:
        time.sleep(0.05)
    assert cancelled_count(metrics) == before + 1
    assert settled(metrics, "melodyflow_edits_in_flight", 0)


def test_the_async_twin_runs_edits_at_once(server: EmbeddedServer) -> None:
    async def run() -> list[Result]:
        async with AsyncMelodyFlowClient(server.grpc_url) as client:
            names = ["celtic", "chiptune", "music_box"]
            return await asyncio.gather(
                *(client.transform(clip(), variation=name, steps=4) for name in names)
            )

    results = asyncio.run(run())
    assert [result.variation for result in results] == ["celtic", "chiptune", "music_box"]
    assert len({result.seed for result in results}) == 1


def test_status(client: MelodyFlowClient) -> None:
    status = client.status()
    assert (status.live, status.ready, status.model_ready) == (True, True, True)
    assert (status.pending, status.error) == (0, None)
    assert status.version


def melodyflow(server: EmbeddedServer, cwd: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "melodyflow_client", *arguments, "--server", server.grpc_url],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command(server: EmbeddedServer, tmp_path: Path) -> None:
    array, rate = clip()
    soundfile.write(tmp_path / "riff.wav", array.T, rate, subtype="PCM_24")
    code, out, err = melodyflow(
        server, tmp_path, "transform", "riff.wav", "--variation", "strings_quartet", "--json"
    )
    assert code == 0, err
    facts = json.loads(out)
    assert facts["output"] == "riff-strings_quartet.wav"
    assert (facts["samples"], facts["sample_rate"], facts["channels"]) == (rate, rate, 2)
    assert facts["info"]["parameters"]["seed"] == facts["seed"]
    assert soundfile.info(tmp_path / facts["output"]).frames == rate
    code, out, err = melodyflow(
        server, tmp_path, "transform", "riff.wav", "--prompt", "x", "--flowstep", "1"
    )
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("melodyflow: flowstep: ")
    code, out, err = melodyflow(server, tmp_path, "status")
    assert code == 0, err
    assert "model ready: yes" in out
