"""Sweeps against a peer that answers as scripted: order, failures, cancellation, the command."""

import asyncio
import io
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import soundfile

from melodyflow_client import (
    AsyncMelodyFlowClient,
    AudioError,
    Cancelled,
    InvalidRequest,
    MelodyFlowClient,
    Progress,
    Retry,
    SweepResult,
    Unavailable,
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
    command,
    edit,
    hang,
    refuse,
    seed_of,
    value,
)

FIVE = ["celtic", "chiptune", "music_box", "strings_quartet", "trap_808"]
PRESETS = load_presets()
NOWHERE = "127.0.0.1:1"  # a port that nothing listens on
AWAY = refuse(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
BAD = refuse(grpc.StatusCode.INVALID_ARGUMENT, "prompt: holds a control character")


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


def variation_of(request: Request) -> str:
    prompt = value(request, "prompt").decode()
    return next(name for name, preset in PRESETS.items() if preset.prompt == prompt)


def each(**scripts: Script) -> list[Script]:
    """Scripts by variation; the others succeed."""

    def script(request: Request, context: Context) -> Iterator[Any]:
        return scripts.get(variation_of(request), edit)(request, context)

    return [script]


def after(event: threading.Event) -> Script:
    def script(request: Request, context: Context) -> Iterator[Any]:
        assert event.wait(10)
        return edit(request, context)

    return script


def test_one_seed_low_priority_and_one_result_each(peer: Peer, client: MelodyFlowClient) -> None:
    file = io.BytesIO(load(CLIP).data)  # can be read only once
    results = list(client.sweep(file, FIVE, session_id="me", steps=4))
    assert sorted(done.variation for done in results) == FIVE
    assert all(done.result and done.error is None for done in results)
    assert sorted(variation_of(request) for request in peer.requests) == FIVE
    [seed] = {seed_of(request) for request in peer.requests}
    assert {done.result.seed for done in results if done.result} == {seed}
    assert {request.parameters["priority"].uint64_param for request in peer.requests} == {3}
    assert {request.parameters["session_id"].string_param for request in peer.requests} == {"me"}
    assert len({request.id for request in peer.requests}) == 5


def test_the_clip_keeps_its_seed_as_with_transform(peer: Peer, client: MelodyFlowClient) -> None:
    def sweep_seed(**options: Any) -> int:
        [seed] = {done.result.seed for done in client.sweep(CLIP, FIVE, **options) if done.result}
        return seed

    first = client.transform(CLIP, prompt="x").seed
    assert sweep_seed() == first
    assert sweep_seed(new_take=True) != first
    assert sweep_seed(seed=5) == 5
    assert client.transform(CLIP, prompt="x").seed == 5


def test_the_default_is_all_variations_your_own_included(peer: Peer, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"variations": {"kazoo": {"prompt": "Kazoo choir, silly."}}}')
    with MelodyFlowClient(peer.address, presets=own) as client:
        came = [done.variation for done in client.sweep(CLIP)]
    assert sorted(came) == sorted([*PRESETS, "kazoo"])


def test_each_name_once(peer: Peer, client: MelodyFlowClient) -> None:
    assert [done.variation for done in client.sweep(CLIP, ["celtic", "celtic"])] == ["celtic"]
    assert list(client.sweep(CLIP, [])) == []
    assert len(peer.requests) == 1


def test_wrong_arguments_raise_before_anything_is_sent(
    peer: Peer, client: MelodyFlowClient
) -> None:
    with pytest.raises(UnknownVariation, match="'celtik'; did you mean celtic") as caught:
        client.sweep(CLIP, ["chiptune", "celtik", "kazoo"])
    assert caught.value.name == "celtik"
    with pytest.raises(InvalidRequest, match=r"^variations: must be a list of names"):
        client.sweep(CLIP, "celtic")
    for concurrency in (0, 1.5, True):
        with pytest.raises(InvalidRequest, match=r"^concurrency: must be a whole number"):
            client.sweep(CLIP, FIVE, concurrency=concurrency)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"^strength: "):
        client.sweep(CLIP, FIVE, strength=2)
    with pytest.raises(TypeError, match="no option 'prompt'"):
        client.sweep(CLIP, FIVE, prompt="x")  # type: ignore[call-arg]
    with pytest.raises(AudioError):
        next(client.sweep(b"no sound", FIVE))
    assert peer.requests == []


def test_results_arrive_in_the_order_they_are_ready(peer: Peer, client: MelodyFlowClient) -> None:
    go = threading.Event()
    peer.scripts = each(celtic=after(go))
    seen = []
    for done in client.sweep(CLIP, FIVE, concurrency=2):
        seen.append(done.variation)
        if len(seen) == 4:
            go.set()
    assert seen == [*FIVE[1:], "celtic"]


def test_concurrency_is_reached_and_not_exceeded(peer: Peer, client: MelodyFlowClient) -> None:
    together = threading.Barrier(3)

    def three(request: Request, context: Context) -> Iterator[Any]:
        together.wait(5)  # breaks if fewer than three are there
        running.append(1)
        time.sleep(0.05)
        assert len(running) <= 3
        yield from edit(request, context)
        running.pop()

    running: list[int] = []
    peer.scripts = [three]
    results = list(client.sweep(CLIP, list(PRESETS)[:9], concurrency=3))
    assert [done.error for done in results] == [None] * 9


def test_edits_go_on_while_the_caller_handles_a_result(
    peer: Peer, client: MelodyFlowClient
) -> None:
    with closing(client.sweep(CLIP, FIVE, concurrency=1)) as results:
        next(results)
        until = time.monotonic() + 5
        while len(peer.requests) < 5 and time.monotonic() < until:
            time.sleep(0.01)
    assert len(peer.requests) == 5


def test_one_failure_does_not_affect_the_rest(peer: Peer, client: MelodyFlowClient) -> None:
    fault = refuse(grpc.StatusCode.INTERNAL, "the edit was not finite", after=0.5)
    peer.scripts = each(celtic=BAD, music_box=fault)
    results = {done.variation: done for done in client.sweep(CLIP, FIVE, concurrency=1)}
    assert list(results) == FIVE
    assert [name for name, done in results.items() if done.result is None] == [
        "celtic",
        "music_box",
    ]
    refused = results["celtic"].error
    assert isinstance(refused, InvalidRequest)
    assert refused.message == "prompt: holds a control character"
    assert refused.request_id == peer.requests[0].id
    assert results["music_box"].error is not None
    assert results["music_box"].error.status == "INTERNAL"


def test_each_edit_has_its_own_retries(peer: Peer, client: MelodyFlowClient) -> None:
    peer.scripts = [edit, FULL, FULL, edit]
    results = list(client.sweep(CLIP, FIVE, concurrency=1))
    assert all(done.result for done in results)
    assert len(peer.requests) == 7
    assert len({request.id for request in peer.requests}) == 5
    assert len({seed_of(request) for request in peer.requests}) == 1


def test_without_a_server_only_the_first_edits_are_retried(peer: Peer) -> None:
    peer.scripts = [AWAY]
    with MelodyFlowClient(peer.address, retry=Retry(retries=1, first=0.01)) as client:
        results = list(client.sweep(CLIP, concurrency=2))
    assert len(peer.requests) == 4
    assert sorted(done.variation for done in results) == sorted(PRESETS)
    assert all(isinstance(done.error, Unavailable) for done in results)


def test_after_an_answer_the_other_edits_are_tried_too(peer: Peer) -> None:
    peer.scripts = each(chiptune=AWAY, music_box=AWAY)
    with MelodyFlowClient(peer.address, retry=Retry(retries=0)) as client:
        results = list(client.sweep(CLIP, FIVE, concurrency=1))
    assert [bool(done.result) for done in results] == [True, False, False, True, True]
    peer.scripts = each(celtic=BAD, chiptune=AWAY)  # a refusal is an answer
    with MelodyFlowClient(peer.address, retry=Retry(retries=0)) as client:
        results = list(client.sweep(CLIP, FIVE, concurrency=1))
    assert [bool(done.result) for done in results] == [False, False, True, True, True]


@pytest.mark.parametrize("text", ["Exceeds maximum queue size", "Request timeout expired"])
def test_a_full_queue_is_a_server_that_answers(peer: Peer, text: str) -> None:
    """One edit always meets it; the others are tried nevertheless."""
    peer.scripts = each(celtic=refuse(grpc.StatusCode.UNAVAILABLE, text))
    with MelodyFlowClient(peer.address, retry=Retry(retries=1, first=0.01)) as client:
        results = list(client.sweep(CLIP, FIVE, concurrency=1))
    assert [bool(done.result) for done in results] == [False, True, True, True, True]


def test_a_queued_edit_survives_the_failure_of_another(peer: Peer) -> None:
    go = threading.Event()
    peer.scripts = each(celtic=after(go), chiptune=AWAY)
    with MelodyFlowClient(peer.address, retry=Retry(retries=0)) as client:
        results = []
        for done in client.sweep(CLIP, FIVE, concurrency=2):
            results.append(done)
            go.set()
    assert [(done.variation, bool(done.result)) for done in results] == [
        ("chiptune", False),
        ("celtic", True),
        ("music_box", True),
        ("strings_quartet", True),
        ("trap_808", True),
    ]


def test_progress_names_its_edit(peer: Peer, client: MelodyFlowClient) -> None:
    seen: list[tuple[str, str]] = []
    callers: set[int] = set()

    def note(variation: str, event: Progress) -> None:
        seen.append((variation, event.stage))
        callers.add(threading.get_ident())

    list(client.sweep(CLIP, FIVE[:2], concurrency=1, on_progress=note))
    stages = ["queued", "inverting", "generating"]
    assert seen == [(name, stage) for name in FIVE[:2] for stage in stages]
    assert callers == {threading.get_ident()}


class Gone:
    """A script that waits to be cancelled; counts edits begun and cancelled."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)

    def __call__(self, request: Request, context: Context) -> Iterator[Any]:
        context.add_callback(self.cancelled.release)
        self.begun.release()
        yield from hang(request, context)

    def saw(self, edits: int) -> bool:
        """Whether `edits` edits were cancelled and no more were begun."""
        all_cancelled = all(self.cancelled.acquire(timeout=5) for _ in range(edits))
        time.sleep(0.1)
        begun = sum(self.begun.acquire(blocking=False) for _ in range(99))
        return all_cancelled and begun == edits


@pytest.mark.parametrize("way", ["break", "on_progress", "client"])
def test_leaving_cancels_what_still_runs_and_sends_no_more(peer: Peer, way: str) -> None:
    gone = Gone()
    peer.scripts = each(**dict.fromkeys(FIVE[1:], gone))

    def stop(variation: str, event: Progress) -> None:
        if way == "on_progress" and len(peer.requests) == 4:
            raise LookupError("enough")

    with MelodyFlowClient(peer.address, retry=QUICK) as client:
        results = client.sweep(CLIP, FIVE, concurrency=3, on_progress=stop)
        if way == "on_progress":
            with pytest.raises(LookupError, match="enough"):
                list(results)
        else:
            for done in results:
                assert done.variation == "celtic"
                while len(peer.requests) < 4:
                    time.sleep(0.01)
                break
        if way == "break":
            del results
        elif way == "client":
            client.close()
            with pytest.raises(Cancelled, match="closed"):
                next(results)
    assert gone.saw(3)


@pytest.mark.parametrize("way", ["break", "aclose", "task"])
def test_async_ways_to_cancel(peer: Peer, way: str) -> None:
    gone = Gone()
    peer.scripts = each(**dict.fromkeys(FIVE[1:], gone))

    async def three_run() -> None:
        while len(peer.requests) < 4:
            await asyncio.sleep(0.01)

    async def run() -> None:
        async with AsyncMelodyFlowClient(peer.address, retry=QUICK) as client:
            if way == "break":
                async for done in client.sweep(CLIP, FIVE, concurrency=3):
                    assert done.variation == "celtic"
                    await three_run()
                    break
            elif way == "aclose":
                async with aclosing(client.sweep(CLIP, FIVE, concurrency=3)) as results:
                    await anext(results)
                    await three_run()
            else:

                async def all_of_it() -> list[SweepResult]:
                    return [done async for done in client.sweep(CLIP, FIVE, concurrency=3)]

                task = asyncio.create_task(all_of_it())
                await three_run()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert await asyncio.to_thread(gone.saw, 3)

    asyncio.run(run())


def test_the_async_twin(peer: Peer) -> None:
    seen = set()

    async def note(variation: str, event: Progress) -> None:
        await asyncio.sleep(0)
        seen.add((variation, event.stage))

    async def run() -> list[SweepResult]:
        async with AsyncMelodyFlowClient(peer.address, retry=QUICK) as client:
            with pytest.raises(UnknownVariation):
                client.sweep(CLIP, ["kazoo"])
            return [done async for done in client.sweep(CLIP, FIVE, on_progress=note)]

    peer.scripts = each(celtic=BAD)
    results = asyncio.run(run())
    assert sorted(done.variation for done in results) == FIVE
    assert [done.variation for done in results if done.error] == ["celtic"]
    assert len({done.result.seed for done in results if done.result}) == 1
    assert seen >= {(name, "queued") for name in FIVE}


def test_the_command_writes_each_and_prints_paths(peer: Peer, riff: Path) -> None:
    names = [word for name in FIVE for word in ("--variation", name)]
    arguments = ["sweep", "riff.wav", *names, "-o", "out", "--seed", "7"]
    with command(peer, *arguments, cwd=riff.parent) as process:
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert sorted(out.splitlines()) == [f"out/riff-{name}.wav" for name in FIVE]
    assert all((riff.parent / line).is_file() for line in out.splitlines())
    for name in FIVE:
        assert f"{name}: queued 0%" in err
        assert f"{name}: done" in err
        assert f"{name:<15}  0.100 s  peak 0.500  out/riff-{name}.wav" in err
    assert err.splitlines()[-1] == "5 of 5 done, seed 7"
    with command(peer, *arguments, "--json", "--quiet", cwd=riff.parent) as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    facts = [json.loads(line) for line in out.splitlines()]
    # An earlier take is not lost.
    assert sorted(fact["output"] for fact in facts) == [f"out/riff-{n}-2.wav" for n in FIVE]
    assert {(fact["seed"], fact["samples"]) for fact in facts} == {(7, 4800)}


@pytest.mark.parametrize(
    ("other", "code"), [(edit, 2), (refuse(grpc.StatusCode.INTERNAL, "out of memory"), 4)]
)
def test_the_command_reports_failures_and_writes_the_rest(
    peer: Peer, riff: Path, other: Script, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.scripts = each(celtic=BAD, chiptune=other)
    names = [word for name in FIVE[:3] for word in ("--variation", name)]
    arguments = ["sweep", "riff.wav", *names, "--format", "wav24", "--server", peer.address]
    assert main([*arguments, "--json"]) == code
    captured = capsys.readouterr()
    objects = {fact["variation"]: fact for fact in map(json.loads, captured.out.splitlines())}
    assert objects.keys() == set(FIVE[:3])
    assert objects["celtic"] == {
        "variation": "celtic",
        "error": "prompt: holds a control character",
        "status": "INVALID_ARGUMENT",
        "request_id": next(r.id for r in peer.requests if variation_of(r) == "celtic"),
    }
    assert objects["music_box"]["output"] == "riff-music_box.wav"
    assert "melodyflow: celtic: prompt: holds a control character\n" in captured.err
    assert ("melodyflow: chiptune: out of memory\n" in captured.err) == (code == 4)
    assert main(arguments) == code
    table = [line for line in capsys.readouterr().err.splitlines() if ": " not in line]
    assert table[0] == "celtic     failed"
    assert table[-1].startswith(f"{2 if code == 2 else 1} of 3 done, seed ")


def test_ctrl_c_cancels_the_rest_and_keeps_finished_results(peer: Peer, riff: Path) -> None:
    gone = Gone()
    peer.scripts = each(**dict.fromkeys(FIVE[1:], gone))
    names = [word for name in FIVE for word in ("--variation", name)]
    arguments = ["sweep", "riff.wav", *names, "--concurrency", "2"]
    with command(peer, *arguments, cwd=riff.parent) as process:
        assert process.stdout
        assert process.stdout.readline() == "riff-celtic.wav\n"
        while len(peer.requests) < 3:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err.splitlines()[-2].startswith("1 of 5 done, seed ")
    assert err.splitlines()[-1] == "melodyflow: cancelled"
    assert "Traceback" not in err
    assert gone.saw(2)
    assert soundfile.info(riff.parent / "riff-celtic.wav").frames == 4800
    assert len(list(riff.parent.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--variation", "celtic", "--variation", "celtik"], 2, "did you mean celtic"),
        (["--all", "--strength", "2"], 2, "strength: must be"),
        (["--all", "--concurrency", "0"], 2, "concurrency: must be"),
        (["--all", "-o", "riff.wav"], 2, "output: cannot make the folder 'riff.wav'"),
        (["--all", "--timeout", "1", "--concurrency", "1"], 3, "no server answers at"),
    ],
)
def test_failures_have_their_exit_code_and_one_line(
    riff: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "riff.wav", *arguments, "--server", NOWHERE, "--quiet"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert list(riff.parent.iterdir()) == [riff]


@pytest.mark.parametrize("arguments", [[], ["--all", "--variation", "celtic"], ["--prompt", "x"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sweep", "riff.wav", *arguments])
    assert ended.value.code == 2
