"""The engine against the sequential `edit.py`, and what it does when something goes wrong."""

import gc
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from melodyflow import edit
from melodyflow.edit import Parameters
from melodyflow.engine import Check, Engine, Job
from melodyflow.engine.workers import MOST_OF_ONE
from melodyflow.errors import Code, EditError
from melodyflow.model import MelodyFlow
from melodyflow.model.transformer import Row

WAIT = 60  # seconds after which a test gives up
CANCEL = EditError(Code.CANCELLED, "the client cancelled the request")


class Counts:
    """The engine's metrics, kept."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.found: list[str] = []
        self.now = (0, 0)
        self.most = (0, 0)

    def in_flight(self, edits: int, frames: int) -> None:
        self.now = (edits, frames)
        self.most = (max(self.most[0], edits), max(self.most[1], frames))

    def evaluated(self, rows: int, tokens: int, seconds: float) -> None:
        self.calls.append((rows, tokens))

    def stage(self, name: str, seconds: float) -> None:
        pass

    def cached(self, cache_bytes: int) -> None:
        self.cache_bytes = cache_bytes

    def inversion(self, found: str) -> None:
        self.found.append(found)


class Edit:
    """One edit put to an engine: its job and what it is told."""

    def __init__(
        self,
        engine: Engine,
        waveform: Tensor,
        parameters: Parameters,
        owner: str = "",
        previews: int = 0,
    ) -> None:
        self.waveform, self.parameters = waveform, parameters
        self.ended = threading.Event()
        self.ends = 0
        self.result: Tensor | None = None
        self.error: EditError | None = None
        self.steps: list[tuple[str, int]] = []
        self.on_step: Callable[[str, int], None] = lambda stage, done: None
        frames = engine.model.codec.config.frames(waveform.shape[-1])
        read = (lambda check: waveform) if parameters.duration is None else None
        self.job = Job(parameters, frames, read, self, owner, previews)
        self.previews: list[tuple[int, Tensor]] = []
        self.on_preview: Callable[[int], None] = lambda done: None
        self.engine = engine

    def start(self) -> "Edit":
        self.engine.acquire(lambda: None)
        self.engine.submit(self.job)
        return self

    def wait(self) -> "Edit":
        assert self.ended.wait(WAIT), "no end came"
        return self

    def progress(self, stage: str, done: int, total: int) -> None:
        self.steps.append((stage, done))
        self.on_step(stage, done)

    def preview(self, waveform: Tensor, done: int, check: Check) -> None:
        self.previews.append((done, waveform))
        self.on_preview(done)

    def finished(self, waveform: Tensor, job: Job, check: Check) -> None:
        self.result = waveform
        self._end()

    def failed(self, error: EditError) -> None:
        self.error = error
        self._end()

    def _end(self) -> None:
        self.ends += 1
        self.ended.set()


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def engine(model: MelodyFlow, counts: Counts) -> Iterator[Engine]:
    made = make_engine(model, counts)
    yield made
    made.network = model.flow
    made.close(WAIT)


@pytest.fixture
def narrow_engine(narrow: MelodyFlow, counts: Counts) -> Iterator[Engine]:
    made = make_engine(narrow, counts)
    yield made
    made.network = narrow.flow
    made.close(WAIT)


def make_engine(
    model: MelodyFlow,
    counts: Counts,
    slots: int = 32,
    max_frames: int = 10**6,
    max_tokens: int = 1024,
    cache_bytes: int = 2**26,
) -> Engine:
    return Engine(
        model,
        slots=slots,
        max_frames=max_frames,
        max_tokens=max_tokens,
        cache_bytes=cache_bytes,
        metrics=counts,
    )


def noise(seconds: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, round(seconds * 48000), generator=generator) - 0.5


def ring(seconds: float, seed: int = 0) -> Tensor:
    """Noise of whole frames, as a loop has."""
    samples = round(seconds * 25) * 1920
    return noise(samples / 48000, seed)


def several(engine: Engine, count: int, steps: int) -> list[Edit]:
    """Edits of as many clips of a second, which share nothing but calls; not started."""
    return [
        Edit(engine, noise(1, seed), Parameters(prompt="strings", seed=1, steps=steps))
        for seed in range(count)
    ]


def settle(engine: Engine, counts: Counts) -> None:
    """Waits until no slot is taken any more."""
    deadline = time.monotonic() + WAIT
    while counts.now != (0, 0):
        assert time.monotonic() < deadline, f"still in flight: {counts.now}"
        time.sleep(0.01)


def assert_equals_sequential(model: MelodyFlow, one: Edit) -> None:
    if one.parameters.duration is None:
        expected = edit.edit(model, one.waveform, one.parameters)
    else:
        expected = edit.generate(model, one.waveform.shape[-1], one.parameters)
    assert one.result is not None, one.error
    error = (one.result - expected).abs().max() / expected.abs().max()
    assert error < 1e-4


def crowd(engine: Engine, seed: int) -> list[Edit]:
    """Twenty edits, also of regions, loops and text-to-music; every fourth shares its clip with
    another."""
    rng = random.Random(seed)
    edits = []
    for i in range(20):
        solver, steps, r, k = rng.choice(
            [("euler", 4, 0, 0), ("euler", 3, 2, 1), ("euler", 2, 4, 2), ("midpoint", 4, 0, 0)]
        )
        parameters = Parameters(
            prompt=rng.choice(["strings", "an accordion in a cafe", "drums"]),
            seed=rng.choice([1, 2]),
            source_prompt=rng.choice(["", "", "a guitar"]),
            flowstep=rng.choice([0.0, 0.12, 0.5]),
            steps=steps,
            solver="midpoint" if solver == "midpoint" else "euler",
            guidance=rng.choice([0.0, 2.0, 4.0]),
            regularize_iters=r,
            keep_last_k_iters=k,
        )
        seconds = rng.choice([0.3, 0.5, 1.0, 2.5, 5.0])
        waveform = noise(seconds, seed=i % 4)
        if i in (3, 6, 11):
            parameters = replace(parameters, start=seconds / 4, end=rng.choice([None, seconds / 2]))
        elif i in (5, 8, 12):
            waveform, parameters = ring(seconds, i % 4), replace(parameters, loop=True)
        elif i in (7, 13):
            parameters = replace(
                parameters, duration=seconds, flowstep=0.0, regularize_iters=0, keep_last_k_iters=0
            )
        edits.append(Edit(engine, waveform, parameters, previews=rng.choice([0, 0, 2])))
    return edits


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_mixed_crowd_equals_the_sequential_driver(
    model: MelodyFlow, engine: Engine, counts: Counts, seed: int
) -> None:
    edits = crowd(engine, seed)
    rng = random.Random(seed)
    cancelled = rng.sample(edits, 4)
    for one in edits:
        if one in cancelled:
            at = rng.randrange(one.parameters.evaluations)
            one.on_step = lambda stage, done, one=one, at=at: done >= at and one.job.stop(CANCEL)
        one.start()
        time.sleep(rng.random() * 0.05)
    for one in edits:
        one.wait()
    settle(engine, counts)
    for one in edits:
        assert one.ends == 1
        if one.error:
            assert one in cancelled
            assert one.error.code == Code.CANCELLED
        else:
            assert_equals_sequential(model, one)
    assert any(one.error for one in cancelled)
    assert max(rows for rows, _ in counts.calls) > 2, "edits shared calls"


def test_clips_beyond_the_window_equal_the_sequential_driver(
    narrow: MelodyFlow, narrow_engine: Engine, counts: Counts
) -> None:
    """Windows of long clips and whole short ones ride in the same calls."""
    edits = [one.start() for one in crowd(narrow_engine, 3)]
    for one in edits:
        assert_equals_sequential(narrow, one.wait())
    settle(narrow_engine, counts)
    assert max(rows for rows, _ in counts.calls) > 4
    assert max(tokens for _, tokens in counts.calls) <= 1024, "however long a clip is"


def test_a_long_clip_ends_between_two_windows(narrow_engine: Engine, counts: Counts) -> None:
    one = Edit(narrow_engine, noise(60), Parameters(prompt="strings", seed=1, steps=20))

    def network(rows: Sequence[Row]) -> list[Tensor]:
        one.job.stop(CANCEL)
        return narrow_engine.model.flow(rows)

    narrow_engine.network = network
    one.start().wait()
    settle(narrow_engine, counts)
    assert one.error is CANCEL
    assert len(counts.calls) == 1, "one evaluation takes two"


def test_progress_never_falls_and_ends_at_the_total(engine: Engine) -> None:
    one = Edit(engine, noise(1), Parameters(prompt="strings", seed=1, steps=3)).start().wait()
    assert [done for _, done in one.steps] == sorted(done for _, done in one.steps)
    assert one.steps[-1] == ("decoding", 9)
    stages = list(dict.fromkeys(stage for stage, _ in one.steps))
    assert stages == ["encoding", "inverting", "generating", "decoding"]


def test_text_to_music_inverts_nothing(engine: Engine, counts: Counts) -> None:
    parameters = Parameters(prompt="strings", seed=1, steps=3, flowstep=0.0, duration=1.0)
    one = Edit(engine, noise(1), parameters).start().wait()
    assert list(dict.fromkeys(stage for stage, _ in one.steps)) == ["generating", "decoding"]
    assert one.steps[-1] == ("decoding", 3)
    assert counts.found == []
    again = Edit(engine, noise(1), parameters).start().wait()
    assert one.result is not None
    assert again.result is not None
    assert torch.equal(one.result, again.result)


def test_variations_of_one_clip_share_one_inversion(
    model: MelodyFlow, engine: Engine, counts: Counts
) -> None:
    clip = noise(1)
    base = Parameters(prompt="", seed=1, steps=4)
    edits = [
        Edit(engine, clip, replace(base, prompt=prompt, guidance=guidance)).start()
        for prompt, guidance in [("strings", 4.0), ("drums", 4.0), ("piano", 1.0), ("strings", 0.0)]
    ]
    for one in edits:
        assert_equals_sequential(model, one.wait())
    late = Edit(engine, clip, replace(base, prompt="flute")).start().wait()
    assert_equals_sequential(model, late)
    assert late.job.shared >= {"inversion"}
    assert late.steps[1] == ("generating", 8), "done starts at the shared share"
    assert sorted(counts.found) == ["hit", "miss", "shared", "shared", "shared"]
    # 8 calls for the one inversion (4 of one row, 4 of two), then 4 of generation for each.
    inverting = 4 * 1 + 4 * 2
    generating = 4 * (2 + 2 + 2 + 1) + 4 * 2
    assert sum(rows for rows, _ in counts.calls) == inverting + generating


def test_a_region_shares_the_inversion_of_the_whole_clip(
    model: MelodyFlow, engine: Engine, counts: Counts
) -> None:
    base = Parameters(prompt="strings", seed=1, steps=3)
    Edit(engine, noise(1), base).start().wait()
    part = Edit(engine, noise(1), replace(base, start=0.3, end=0.7)).start().wait()
    assert counts.found == ["miss", "hit"]
    assert part.job.shared == {"encoding", "inversion", "text"}
    assert_equals_sequential(model, part)
    alone = Edit(engine, noise(1, 9), replace(base, start=0.5)).start().wait()
    assert "encoding" not in alone.job.shared
    assert_equals_sequential(model, alone)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"source_prompt": "a guitar"},
        {"flowstep": 0.2},
        {"steps": 4},
        {"solver": "midpoint", "regularize_iters": 0, "keep_last_k_iters": 0},
        {"regularize_iters": 3},
        {"regularize_iters": 2, "keep_last_k_iters": 2},
        {"lambda_kl": 0.3},
        {"loop": True},
    ],
)
def test_what_an_inversion_depends_on_is_not_shared(
    model: MelodyFlow, engine: Engine, counts: Counts, change: dict[str, object]
) -> None:
    base = Parameters(prompt="strings", seed=1, steps=2)
    Edit(engine, ring(0.32), base).start().wait()
    other = Edit(engine, ring(0.32), replace(base, **change)).start().wait()  # type: ignore[arg-type]
    assert counts.found == ["miss", "miss"]
    assert_equals_sequential(model, other)


def test_another_clip_is_not_shared(engine: Engine, counts: Counts) -> None:
    parameters = Parameters(prompt="strings", seed=1, steps=2)
    Edit(engine, noise(0.3, 1), parameters).start().wait()
    Edit(engine, noise(0.3, 2), parameters).start().wait()
    assert counts.found == ["miss", "miss"]


def test_a_hit_hands_over_the_same_latents(model: MelodyFlow, engine: Engine) -> None:
    seen: list[Tensor] = []

    def network(rows: Sequence[Row]) -> list[Tensor]:
        seen.append(rows[0].latents)
        return model.flow(rows)

    engine.network = network
    parameters = Parameters(prompt="strings", seed=1, steps=2)
    first = Edit(engine, noise(0.3), parameters).start().wait()
    calls = len(seen)
    second = Edit(engine, noise(0.3), parameters).start().wait()
    assert torch.equal(seen[4], seen[calls]), "the generation begins at the same bits"
    assert first.result is not None
    assert second.result is not None
    assert torch.equal(first.result, second.result)


def test_a_shared_inversion_survives_the_one_that_started_it(
    model: MelodyFlow, engine: Engine, counts: Counts
) -> None:
    base = Parameters(prompt="strings", seed=1, steps=6)
    first = Edit(engine, noise(0.5), base)
    second = Edit(engine, noise(0.5), replace(base, prompt="drums"))
    joined = threading.Event()

    def on_step(stage: str, done: int) -> None:
        if stage == "inverting" and done == 2:
            second.start()
            assert joined.wait(WAIT)
            first.job.stop(CANCEL)

    first.on_step = on_step
    second.on_step = lambda stage, done: joined.set() if stage == "inverting" else None
    first.start().wait()
    assert first.error is CANCEL
    assert_equals_sequential(model, second.wait())
    assert counts.found == ["miss", "shared"]
    assert sum(rows for rows, _ in counts.calls) == 6 * 1 + 6 * 2 + 6 * 2


def test_an_inversion_nobody_waits_for_ends(engine: Engine, counts: Counts) -> None:
    one = Edit(engine, noise(0.5), Parameters(prompt="strings", seed=1, steps=20))
    one.on_step = lambda stage, done: one.job.stop(CANCEL) if done == 3 else None
    one.start().wait()
    settle(engine, counts)
    assert len(counts.calls) == 3
    assert not engine._inversions


def test_poisoned_cache_entries_are_computed_anew(
    model: MelodyFlow, engine: Engine, counts: Counts
) -> None:
    parameters = Parameters(prompt="strings", seed=1, steps=2)
    Edit(engine, noise(0.3), parameters).start().wait()
    held = engine._cache._held
    assert {key[0] for key in held} == {"posterior", "inversion", "text"}  # type: ignore[index]
    with torch.inference_mode():
        for tensor in held.values():
            tensor.view(-1)[-1] = float("nan")
    again = Edit(engine, noise(0.3), parameters).start().wait()
    assert counts.found == ["miss", "miss"]
    assert not again.job.shared
    assert_equals_sequential(model, again)
    third = Edit(engine, noise(0.3), parameters).start().wait()
    assert third.job.shared == {"inversion", "text"}, "what was made anew is shared again"


def test_slots_and_frames_bound_what_is_in_flight(model: MelodyFlow, counts: Counts) -> None:
    engine = make_engine(model, counts, slots=3, max_frames=60)
    edits = several(engine, 6, steps=2)
    for one in edits:
        one.start()
    for one in edits:
        one.wait()
    assert counts.most == (3, 50), "two of 25 frames fit into 60, three do not"
    long = Edit(engine, noise(4), Parameters(prompt="strings", seed=1, steps=2))
    assert_equals_sequential(model, long.start().wait())
    engine.close(WAIT)


def test_waiting_for_a_slot_can_be_given_up(model: MelodyFlow, counts: Counts) -> None:
    engine = make_engine(model, counts, slots=1)
    engine.acquire(lambda: None)
    with pytest.raises(EditError) as caught:
        engine.acquire(lambda: CANCEL)
    assert caught.value is CANCEL
    engine.close(0)


def test_an_edit_that_waits_for_room_can_be_stopped_and_holds_up_nobody(
    model: MelodyFlow, counts: Counts
) -> None:
    engine = make_engine(model, counts, slots=3, max_frames=130)
    go_on = threading.Event()
    long, waits, short = (
        Edit(engine, noise(seconds), Parameters(prompt="strings", seed=1, steps=2))
        for seconds in (4, 4, 1)
    )
    long.on_step = lambda stage, done: go_on.wait(WAIT)  # the worker that encodes it
    long.start()
    waits.start()
    short.start().wait()
    assert_equals_sequential(model, short)
    assert not waits.steps
    waits.job.stop(CANCEL)
    assert waits.wait().error is CANCEL
    again = Edit(engine, noise(4), Parameters(prompt="strings", seed=1, steps=2)).start()
    go_on.set()
    assert_equals_sequential(model, again.wait())
    assert long.wait().error is None
    assert waits.ends == 1
    settle(engine, counts)
    engine.close(WAIT)


def test_an_edit_that_waits_for_room_ends_with_the_server(
    model: MelodyFlow, counts: Counts
) -> None:
    engine = make_engine(model, counts, slots=2, max_frames=30)
    two = several(engine, 2, steps=128)
    for one in two:
        one.start()
    engine.close(0.1)
    assert [one.error.code for one in two if one.wait().error] == [Code.UNAVAILABLE] * 2
    assert counts.now == (0, 0)


def faulty(
    model: MelodyFlow, at_fault: Callable[[Row], bool], fault: Callable[[], list[Tensor]]
) -> Callable[[Sequence[Row]], list[Tensor]]:
    """A network that answers a call with a fault where one of its rows is at fault."""

    def network(rows: Sequence[Row]) -> list[Tensor]:
        if any(at_fault(row) for row in rows):
            fault()
        return model.flow(rows)

    return network


def start_together(engine: Engine, edits: list[Edit]) -> None:
    """Starts edits, and answers the first call only when all of them ask for velocities."""
    network, go_on = engine.network, threading.Event()

    def hold(rows: Sequence[Row]) -> list[Tensor]:
        assert go_on.wait(WAIT)
        return network(rows)

    engine.network = hold
    inverting = [threading.Event() for _ in edits]
    for one, event in zip(edits, inverting, strict=True):
        one.on_step = lambda stage, done, event=event: event.set() if stage == "inverting" else None
        one.start()
    assert all(event.wait(WAIT) for event in inverting)
    go_on.set()


@pytest.mark.parametrize(
    "error", [RuntimeError("a fault"), torch.OutOfMemoryError("too large"), MemoryError()]
)
def test_an_edit_that_cannot_run_ends_alone(
    model: MelodyFlow, engine: Engine, counts: Counts, error: Exception
) -> None:
    def fail() -> list[Tensor]:
        raise error

    engine.network = faulty(model, lambda row: row.latents.shape[-1] == 13, fail)
    neighbours = several(engine, 5, steps=4)
    victim = Edit(engine, noise(0.5), Parameters(prompt="strings", seed=1, steps=4))
    start_together(engine, [*neighbours[:3], victim, *neighbours[3:]])
    victim.wait()
    calls = len(counts.calls)
    assert victim.error is not None
    assert victim.error.code == Code.INTERNAL
    for one in neighbours:
        assert_equals_sequential(model, one.wait())
    # It was not the size of the calls: they stay as large as they were.
    assert max(rows for rows, _ in counts.calls[calls + 1 :]) >= 5
    settle(engine, counts)


def test_calls_grow_again_after_an_out_of_memory(
    model: MelodyFlow, engine: Engine, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a server that is never idle."""
    monkeypatch.setattr("melodyflow.engine.calls.GROWTH_CALLS", 5)
    failed: list[tuple[int, int]] = []  # calls before it, and its tokens

    def network(rows: Sequence[Row]) -> list[Tensor]:
        if len(rows) > 3 and not failed:
            failed.append((len(counts.calls), sum(row.latents.shape[-1] for row in rows)))
            raise torch.OutOfMemoryError("for once")
        return model.flow(rows)

    engine.network = network
    edits = several(engine, 4, steps=30)
    start_together(engine, edits)
    for one in edits:
        assert_equals_sequential(model, one.wait())
    ((at, size),) = failed
    after = [tokens for _, tokens in counts.calls[at:]]
    assert max(after[2:4]) <= size / 2, "the call in halves, then smaller ones"
    assert max(after) > size / 2


def test_an_edit_ends_while_it_waits_for_a_worker(
    model: MelodyFlow, engine: Engine, counts: Counts
) -> None:
    """Behind clips that take long to read: its slot is free at once."""
    go_on = threading.Event()
    reading = [threading.Semaphore(0) for _ in range(MOST_OF_ONE)]
    long = []
    for seed, begun in enumerate(reading):
        one = Edit(engine, noise(1, seed), Parameters(prompt="strings", seed=1, steps=2))

        def read(check: Check, begun: threading.Semaphore = begun, one: Edit = one) -> Tensor:
            begun.release()
            assert go_on.wait(WAIT)
            return one.waveform

        one.job.read = read
        long.append(one.start())
    assert all(begun.acquire(timeout=WAIT) for begun in reading)
    waiting = Edit(engine, noise(1, 9), Parameters(prompt="strings", seed=1, steps=2)).start()
    assert counts.now[0] == MOST_OF_ONE + 1
    waiting.job.stop(CANCEL)
    waiting.wait()
    assert waiting.error is CANCEL
    assert counts.now[0] == MOST_OF_ONE
    gone = Edit(engine, noise(1, 8), Parameters(prompt="strings", seed=1, steps=2))
    gone.job.stop(CANCEL)  # before it was handed over
    assert gone.start().wait().error is CANCEL
    go_on.set()
    for one in long:
        assert_equals_sequential(model, one.wait())
    settle(engine, counts)
    assert (waiting.ends, gone.ends) == (1, 1)


def test_a_short_edit_is_not_held_up_by_another_owners_many(
    model: MelodyFlow, counts: Counts
) -> None:
    """Neither by those that are read nor by those that the network works at."""
    engine = make_engine(model, counts, max_tokens=64)
    many = [
        Edit(engine, noise(3, seed), Parameters(prompt="strings", seed=1, steps=16), "many").start()
        for seed in range(6)
    ]
    short = Edit(engine, noise(1, 9), Parameters(prompt="strings", seed=1, steps=2), "one")
    done: list[float] = []  # the share of each of the many, at the short one's last evaluation
    short.on_step = lambda stage, _: (
        done.extend(one.job.done / one.job.parameters.evaluations for one in many)
        if stage == "decoding" and not done
        else None
    )
    assert_equals_sequential(model, short.start().wait())
    assert max(done) < 0.5
    for one in many:
        assert one.wait().error is None
    engine.close(WAIT)


def test_clips_are_encoded_side_by_side(
    model: MelodyFlow, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, encode = threading.Barrier(2, timeout=20), model.codec.encode

    def meet(waveform: Tensor, **options: Any) -> Tensor:
        both.wait()
        return encode(waveform, **options)

    monkeypatch.setattr(model.codec, "encode", meet)
    edits = [
        Edit(engine, noise(1, seed), Parameters(prompt="harp", seed=1, steps=1)) for seed in (1, 2)
    ]
    for one in edits:
        one.start()
    for one in edits:
        assert one.wait().error is None


def test_an_edit_that_ended_is_gone_with_its_clip(engine: Engine, counts: Counts) -> None:
    """Without the garbage collector, which seldom comes."""
    gc.collect()
    gc.disable()
    try:
        for place in ("reading", "generating", "decoding"):
            reason = EditError(Code.CANCELLED, "the client cancelled the request")
            one = Edit(engine, noise(1), Parameters(prompt="strings", seed=1, steps=4))
            job = weakref.ref(one.job)
            clip = noise(1)

            def stop(place: str = place, reason: EditError = reason) -> Tensor:
                found = job()  # noqa: B023
                assert found
                found.stop(reason)
                return clip  # noqa: B023

            if place == "reading":
                one.job.read = lambda check, stop=stop: stop()
            else:
                one.on_step = lambda now, done, place=place, stop=stop: (
                    stop() if now == place else None
                )
            one.start().wait()
            assert one.error is reason, place
            settle(engine, counts)
            del one.job, one  # the two hold each other
            deadline = time.monotonic() + WAIT
            while job() is not None and time.monotonic() < deadline:
                time.sleep(0.01)  # a worker may be about to let go of it
            assert job() is None, place
    finally:
        gc.enable()


def test_nan_ends_its_own_edit(model: MelodyFlow, engine: Engine, counts: Counts) -> None:
    def network(rows: Sequence[Row]) -> list[Tensor]:
        return [
            torch.full_like(answer, float("nan")) if answer.shape[-1] == 13 else answer
            for answer in model.flow(rows)
        ]

    engine.network = network
    neighbour = Edit(engine, noise(1), Parameters(prompt="strings", seed=1, steps=4)).start()
    victim = Edit(engine, noise(0.5), Parameters(prompt="strings", seed=1, steps=4)).start().wait()
    assert victim.error is not None
    assert victim.error.code == Code.INTERNAL
    assert "not finite" in str(victim.error)
    assert_equals_sequential(model, neighbour.wait())


def test_out_of_memory_shrinks_the_call_and_goes_on(
    model: MelodyFlow, engine: Engine, counts: Counts
) -> None:
    sizes: list[int] = []

    def network(rows: Sequence[Row]) -> list[Tensor]:
        sizes.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("only three rows fit")
        return model.flow(rows)

    engine.network = network
    edits = several(engine, 6, steps=6)
    for one in edits:
        one.start()
    for one in edits:
        assert_equals_sequential(model, one.wait())
    assert max(sizes) > 3, "the fault was met"
    assert sizes.count(max(sizes)) < 4, "and not again and again"


def test_the_death_of_the_loop_is_answered_and_reported(model: MelodyFlow, counts: Counts) -> None:
    died = threading.Event()
    engine = Engine(
        model,
        slots=8,
        max_frames=10**6,
        max_tokens=1024,
        cache_bytes=2**20,
        metrics=counts,
        on_death=died.set,
    )

    class Death(BaseException):
        pass

    def network(rows: Sequence[Row]) -> list[Tensor]:
        if len(counts.calls) >= 5:
            raise Death
        return model.flow(rows)

    engine.network = network
    edits = [
        Edit(engine, noise(1, seed), Parameters(prompt="strings", seed=1, steps=6)).start()
        for seed in range(4)
    ]
    for one in edits:
        one.wait()
        assert one.error is not None
        assert one.error.code == Code.INTERNAL
    assert died.wait(WAIT)
    assert not engine.alive
    late = Edit(engine, noise(1, 9), Parameters(prompt="strings", seed=1, steps=2)).start().wait()
    assert late.error is not None
    settle(engine, counts)
    assert all(one.ends == 1 for one in edits)
    engine.close(1)


def test_one_who_cannot_be_told_of_the_loops_death_keeps_it_from_nobody(
    model: MelodyFlow, counts: Counts
) -> None:
    died = threading.Event()
    engine = make_engine(model, counts)
    engine._on_death = died.set

    class Death(BaseException):
        pass

    def network(rows: Sequence[Row]) -> list[Tensor]:
        if len(counts.calls) >= 5:
            raise Death
        return model.flow(rows)

    def deaf(error: EditError) -> None:
        raise RuntimeError("deaf")

    engine.network = network
    edits = several(engine, 3, steps=6)
    edits[1].failed = deaf  # type: ignore[method-assign]
    for one in edits:
        one.start()
    for one in (edits[0], edits[2]):
        assert one.wait().error is not None
    assert died.wait(WAIT)
    settle(engine, counts)
    engine.close(1)


def test_closing_ends_what_does_not_end_by_itself(model: MelodyFlow, counts: Counts) -> None:
    engine = make_engine(model, counts)
    running = threading.Event()
    one = Edit(engine, noise(1), Parameters(prompt="strings", seed=1, steps=128))
    one.on_step = lambda stage, done: running.set() if done == 2 else None
    one.start()
    assert running.wait(WAIT)
    engine.close(0)
    one.wait()
    assert one.error is not None
    assert one.error.code == Code.UNAVAILABLE
    with pytest.raises(EditError) as caught:
        engine.acquire(lambda: None)
    assert caught.value.code == Code.UNAVAILABLE
