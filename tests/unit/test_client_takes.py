"""Takes and text-to-music against a peer that answers as scripted: seeds, failures, the command.

How many edits run at once, and how they end, is tested with sweeps: it is the same code.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import soundfile

from melodyflow_client import (
    AsyncMelodyFlowClient,
    AudioError,
    InvalidRequest,
    MelodyFlowClient,
    TakeResult,
    UnknownVariation,
    load_presets,
)
from melodyflow_client.audio import load
from melodyflow_client.cli import main

from .client_peer import (
    CLIP,
    FULL,
    QUICK,
    Context,
    Peer,
    Request,
    Script,
    answer,
    edit,
    hang,
    progress,
    refuse,
    seed_of,
    value,
)

BAD = refuse(grpc.StatusCode.INTERNAL, "the edit was not finite")


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.stop()


@pytest.fixture
def client(peer: Peer) -> Iterator[MelodyFlowClient]:
    with MelodyFlowClient(peer.address, retry=QUICK) as made:
        yield made


@pytest.fixture
def riff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "riff.wav"
    path.write_bytes(load(CLIP).data)
    return path


def by_seed(scripts: dict[int, Script]) -> list[Script]:
    def script(request: Request, context: Context) -> Iterator[Any]:
        return scripts.get(seed_of(request), edit)(request, context)

    return [script]


def seeds(client: MelodyFlowClient, *count: int, **options: Any) -> list[int]:
    takes = client.takes(CLIP, *count, prompt="x", concurrency=1, **options)
    return [done.result.seed for done in takes if done.result]


def test_each_take_has_the_next_seed_and_low_priority(peer: Peer, client: MelodyFlowClient) -> None:
    takes = list(client.takes(CLIP, 3, variation="celtic", seed=7, steps=4, session_id="me"))
    assert sorted(done.seed for done in takes) == [7, 8, 9]
    for done in takes:
        assert done.result
        assert (done.result.seed, done.result.variation, done.error) == (done.seed, "celtic", None)
    assert sorted(seed_of(request) for request in peer.requests) == [7, 8, 9]
    prompt = load_presets()["celtic"].prompt.encode()
    assert {value(request, "prompt") for request in peer.requests} == {prompt}
    assert {request.parameters["priority"].uint64_param for request in peer.requests} == {3}
    assert len({request.id for request in peer.requests}) == 3


def test_the_first_seed_is_the_clips_and_is_kept(client: MelodyFlowClient) -> None:
    first = client.transform(CLIP, prompt="x").seed
    assert seeds(client) == [(first + take) % 2**31 for take in range(4)]
    assert client.transform(CLIP, prompt="x").seed == first
    new = seeds(client, 2, new_take=True)
    assert new[0] not in (first, first + 1)
    assert client.transform(CLIP, prompt="x").seed == new[0]
    assert seeds(client, 3, seed=2**31 - 2) == [2**31 - 2, 2**31 - 1, 0]
    assert client.transform(CLIP, prompt="x").seed == 2**31 - 2


def test_one_failure_does_not_affect_the_rest_and_each_is_retried(peer: Peer) -> None:
    peer.scripts = [FULL, *by_seed({8: BAD})]
    with MelodyFlowClient(peer.address, retry=QUICK) as client:
        takes = list(client.takes(CLIP, 3, prompt="x", seed=7, concurrency=1))
    assert [(done.seed, bool(done.result)) for done in takes] == [(7, True), (8, False), (9, True)]
    assert takes[1].error
    assert (takes[1].error.message, takes[1].error.status) == (
        "the edit was not finite",
        "INTERNAL",
    )


def test_progress_names_its_take_and_leaving_cancels(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = by_seed({8: hang})
    seen = []
    takes = client.takes(
        CLIP, 2, prompt="x", seed=7, on_progress=lambda seed, event: seen.append((seed, event))
    )
    assert next(takes).seed == 7
    while len(peer.requests) < 2:  # what wasn't sent yet can't be cancelled
        time.sleep(0.01)
    takes.close()
    assert peer.cancelled.wait(5)
    assert {(7, "queued"), (7, "generating")} <= {(seed, event.stage) for seed, event in seen}


def test_wrong_arguments_raise_before_anything_is_sent(
    peer: Peer, client: MelodyFlowClient
) -> None:
    for count in (0, -1, 1.5, True, "4"):
        with pytest.raises(InvalidRequest, match=r"^count: must be a whole number, at least 1"):
            client.takes(CLIP, count, prompt="x")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"^concurrency: "):
        client.takes(CLIP, 2, prompt="x", concurrency=0)
    with pytest.raises(InvalidRequest, match=r"^seed: must be 0 to 2147483647"):
        client.takes(CLIP, 2, prompt="x", seed=2**31)
    with pytest.raises(UnknownVariation, match="did you mean celtic"):
        client.takes(CLIP, 2, variation="celtik")
    with pytest.raises(InvalidRequest, match=r"^start: 3 s must be before the end, 0.1 s"):
        next(client.takes(CLIP, 2, prompt="x", start=3))
    with pytest.raises(InvalidRequest, match=r"^end: 3 s is after the clip's end, 0.1 s"):
        next(client.sweep(CLIP, ["celtic"], end=3))
    with pytest.raises(InvalidRequest, match=r"^end: 3 s is after the clip's end, 0.1 s"):
        client.transform(CLIP, variation="celtic", end=3)
    with pytest.raises(AudioError):
        next(client.takes(b"no sound", 2, prompt="x"))
    assert peer.requests == []


def test_the_async_twin(peer: Peer) -> None:
    seen = set()

    async def note(seed: int, event: object) -> None:
        await asyncio.sleep(0)
        seen.add(seed)

    async def run() -> list[TakeResult]:
        async with AsyncMelodyFlowClient(peer.address, retry=QUICK) as client:
            with pytest.raises(InvalidRequest, match=r"^count: "):
                client.takes(CLIP, 0, prompt="x")
            takes = client.takes(CLIP, 3, prompt="x", seed=5, on_progress=note)
            return [done async for done in takes]

    peer.scripts = by_seed({6: BAD})
    takes = {done.seed: done for done in asyncio.run(run())}
    assert sorted(takes) == [5, 6, 7]
    assert takes[5].result
    assert takes[6].error
    assert seen == {5, 6, 7}


def test_the_takes_command(peer: Peer, riff: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer.scripts = by_seed({8: BAD})
    takes = ["takes", "riff.wav", "--variation", "celtic", "--count", "3", "--seed", "7"]
    arguments = [*takes, "-o", "out", "--server", peer.address]
    assert main(arguments) == 4
    captured = capsys.readouterr()
    assert sorted(captured.out.splitlines()) == ["out/riff-celtic-7.wav", "out/riff-celtic-9.wav"]
    assert soundfile.info("out/riff-celtic-9.wav").frames == 4800
    table = [line for line in captured.err.splitlines() if ": " not in line]
    assert table == [
        "celtic-7  0.100 s  peak 0.500  out/riff-celtic-7.wav",
        "celtic-8  failed",
        "celtic-9  0.100 s  peak 0.500  out/riff-celtic-9.wav",
        "2 of 3 done",
    ]
    assert "melodyflow: celtic-8: the edit was not finite\n" in captured.err
    assert main([*arguments, "--json", "--quiet"]) == 4
    facts = {f["seed"]: f for f in map(json.loads, capsys.readouterr().out.splitlines())}
    assert facts[7]["output"] == "out/riff-celtic-7-2.wav"  # an earlier one is not lost
    assert (facts[8]["variation"], facts[8]["error"]) == ("celtic", "the edit was not finite")


def test_random_seeds_are_reported(
    peer: Peer, riff: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["takes", "riff.wav", "--prompt", "x", "--quiet", "--server", peer.address]) == 0
    sent = sorted(seed_of(request) for request in peer.requests)
    paths = sorted(capsys.readouterr().out.splitlines())
    assert paths == sorted(f"riff-custom-{seed}.wav" for seed in sent)
    assert len(paths) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "x", "--count", "0"], "count: must be a whole number, at least 1, not 0"),
        (["--prompt", "x", "--seed", "2147483648"], "seed: must be 0 to 2147483647"),
        (["--variation", "celtik"], "did you mean celtic"),
        ([], "prompt: give a prompt or a variation"),
        (["--prompt", "x", "--end", "3"], "end: 3 s is after the clip's end, 0.1 s"),
        (["--prompt", "x", "--start", "0", "--loop"], "loop: is for the whole clip"),
        (["--prompt", "x", "-o", "riff.wav"], "output: cannot make the folder 'riff.wav'"),
    ],
)
def test_failures_of_the_takes_command(
    peer: Peer, riff: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["takes", "riff.wav", *arguments, "--server", peer.address, "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert list(riff.parent.iterdir()) == [riff]
    assert peer.requests == []


def text_to_music(request: Request, context: Context) -> Iterator[Any]:
    assert "audio" not in {tensor.name for tensor in request.inputs}
    yield progress(0.6, b"generating")
    audio = load(CLIP).data
    yield answer(audio=audio, sample_rate=48000, seed=seed_of(request), gain_db=0.0)


def test_text_to_music(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [FULL, text_to_music]
    seen = []
    result = client.generate(
        "solo cello", duration=10, on_progress=lambda event: seen.append(event.stage)
    )
    assert result.waveform.shape == (1, 4800)
    assert seen == ["queued", "queued", "generating"]
    first, second = peer.requests
    assert (seed_of(first), first.id) == (seed_of(second), second.id)  # a retry is the same
    assert seed_of(second) == result.seed
    assert value(second, "prompt") == b"solo cello"
    assert client.generate("solo cello", duration=10).seed != result.seed
    assert client.generate(variation="celtic", duration=10, seed=7).seed == 7
    with pytest.raises(InvalidRequest, match=r"^flowstep: is for edits"):
        client.generate("x", duration=10, flowstep=0.1)  # type: ignore[call-arg]


def test_text_to_music_async(peer: Peer) -> None:
    async def run() -> None:
        async with AsyncMelodyFlowClient(peer.address, retry=QUICK) as client:
            assert (await client.generate("solo cello", duration=10, seed=7)).seed == 7
            peer.scripts = [hang]
            task = asyncio.create_task(client.generate("solo cello", duration=10))
            while len(peer.requests) < 2:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    peer.scripts = [text_to_music]
    asyncio.run(run())
    assert peer.cancelled.wait(5)


def test_the_generate_command(peer: Peer, riff: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer.scripts = [text_to_music]
    arguments = ["generate", "--duration", "10", "--seed", "7", "--server", peer.address]
    assert main([*arguments, "--variation", "celtic"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "celtic.wav\n"
    assert "celtic: generating 60%" in captured.err or "celtic: queued 0%" in captured.err
    assert captured.err.splitlines()[-1].startswith("0.100 s, 48000 Hz, 1 channel, peak 0.500")
    assert main([*arguments, "--prompt", "x", "--loudness", "-14", "-o", "out.wav", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["output"], facts["seed"], facts["variation"]) == ("out.wav", 7, None)
    assert value(peer.requests[-1], "loudness") == b"-14"
    assert soundfile.info("out.wav").frames == 4800
    assert main([*arguments, "--prompt", "x", "--loudness", "source", "-o", "no.wav"]) == 2
    assert "loudness: text-to-music has no source" in capsys.readouterr().err
    for wrong in (["generate", "--prompt", "x"], ["transform", "riff.wav", "--duration", "5"]):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2


def test_region_loop_and_loudness_of_the_command(peer: Peer, riff: Path) -> None:
    arguments = ["transform", "riff.wav", "--prompt", "x", "--quiet", "--server", peer.address]
    assert main([*arguments, "--start", "0", "--end", "0.1", "--loudness", "none"]) == 0
    assert main([*arguments, "--loop", "--loudness", "-9.5"]) == 0
    region, loop = peer.requests
    sent = [{tensor.name for tensor in request.inputs} for request in peer.requests]
    assert {"start", "end"} <= sent[0]
    assert not {"loop", "loudness"} & sent[0]
    assert {"loop", "loudness"} <= sent[1]
    assert not {"start", "end"} & sent[1]
    assert value(loop, "loop") == b"\x01"
    assert value(loop, "loudness") == b"-9.5"
    assert value(region, "start") == b"\x00" * 4
