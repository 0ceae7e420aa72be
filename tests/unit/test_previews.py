"""Previews: decoded beside the step loop, and never in an edit's way."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch

from melodyflow.contract import preview_steps
from melodyflow.edit import Parameters
from melodyflow.engine import Engine
from melodyflow.model import MelodyFlow

from .test_engine import CANCEL, WAIT, Counts, Edit, make_engine, noise, ring, settle


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def engine(model: MelodyFlow, counts: Counts) -> Iterator[Engine]:
    made = make_engine(model, counts)
    yield made
    made.close(WAIT)


@pytest.mark.parametrize(
    ("previews", "steps", "expected"),
    [
        (0, 25, []),
        (4, 25, [5, 10, 15, 20]),
        (1, 2, [1]),
        (1, 1, []),
        (16, 4, [1, 2, 3]),
        (3, 8, [2, 4, 6]),
    ],
)
def test_steps_are_evenly_spaced_and_inside(previews: int, steps: int, expected: list[int]) -> None:
    found = preview_steps(previews, steps)
    assert found == expected
    assert len(found) == min(previews, steps - 1)
    assert all(0 < step < steps for step in found)
    gaps = [b - a for a, b in zip([0, *found], [*found, steps], strict=True)]
    assert max(gaps) - min(gaps) <= 1


@pytest.fixture
def narrow_engine(narrow: MelodyFlow, counts: Counts) -> Iterator[Engine]:
    made = make_engine(narrow, counts)
    yield made
    made.close(WAIT)


def in_step(one: Edit) -> Edit:
    """Lets each of its previews be decoded before the step after it."""
    decoded = threading.Semaphore(0)
    one.on_preview = lambda done: decoded.release()

    def wait(stage: str, done: int) -> None:
        if stage == "generating" and done in one.job.previews:
            assert decoded.acquire(timeout=WAIT)

    one.on_step = wait
    return one


@pytest.mark.parametrize("music", [False, True])
@pytest.mark.parametrize("solver", ["euler", "midpoint"])
def test_a_preview_is_the_result_if_the_rest_of_the_way_is_straight(
    engine: Engine, counts: Counts, solver: Literal["euler", "midpoint"], music: bool
) -> None:
    engine.network = lambda rows: [torch.ones_like(row.latents) for row in rows]
    parameters = Parameters(
        prompt="strings", seed=1, steps=8, solver=solver, regularize_iters=0, keep_last_k_iters=0
    )
    if music:
        parameters = replace(parameters, duration=1.0, flowstep=0.0)
    one = Edit(engine, noise(1), parameters, previews=3)
    in_step(one).start().wait()
    settle(engine, counts)
    assert one.error is None
    first = one.job.parameters.inversion_evaluations
    assert [done - first for done, _ in one.previews] == [2, 4, 6]
    assert one.result is not None
    for _, preview in one.previews:
        assert torch.allclose(preview, one.result, atol=1e-4 * float(one.result.abs().max()))


KINDS: dict[str, dict[str, Any]] = {
    "clip": {},
    "long": {"seconds": 5.2},
    "region": {"start": 0.4, "end": 1.3},
    "long region": {"seconds": 5.2, "start": 1.0, "end": 4.0},
    "loop": {"loop": True},
    "long loop": {"seconds": 5.2, "loop": True},
    "music": {"duration": 2.0},
    "long music": {"seconds": 5.2, "duration": 5.2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_later_a_preview_the_nearer_it_is_to_the_result(
    narrow_engine: Engine, counts: Counts, kind: str
) -> None:
    """Of clips within the network's window of two seconds (50 frames) and beyond it."""
    changes = dict(KINDS[kind])
    seconds = changes.pop("seconds", 2.0)
    flowstep = 0.0 if "duration" in changes else 0.12
    parameters = Parameters("strings", seed=1, steps=16, solver="euler", flowstep=flowstep)
    one = Edit(narrow_engine, ring(seconds), replace(parameters, **changes), previews=16)
    in_step(one).start().wait()
    settle(narrow_engine, counts)
    assert one.error is None
    assert one.result is not None
    first = one.job.parameters.inversion_evaluations
    assert [done - first for done, _ in one.previews] == list(range(1, 16))
    far = [float((heard - one.result).norm() / one.result.norm()) for _, heard in one.previews]
    assert far[-1] < 0.05
    assert far[-1] < far[7] < far[0]


def test_a_slow_decoder_drops_previews_and_holds_up_nobody(engine: Engine, counts: Counts) -> None:
    parameters = Parameters(prompt="strings", seed=1, steps=12)
    plain = Edit(engine, noise(1), parameters).start().wait()
    go = threading.Event()
    one = Edit(engine, noise(1), parameters, previews=8)
    one.on_preview = lambda done: assert_in_time(go)
    one.start().wait()
    other = Edit(engine, noise(1, 2), parameters, previews=8).start().wait()
    assert other.previews == []
    go.set()
    settle(engine, counts)
    assert len(one.previews) == 1
    assert plain.result is not None
    assert one.result is not None
    assert torch.equal(plain.result, one.result)


def assert_in_time(event: threading.Event) -> None:
    assert event.wait(WAIT)


def test_a_preview_that_fails_costs_the_edit_nothing(engine: Engine, counts: Counts) -> None:
    def fail(done: int) -> None:
        raise ValueError(done)

    one = Edit(engine, noise(1), Parameters(prompt="strings", seed=1, steps=12), previews=8)
    one.on_preview = fail
    one.start().wait()
    settle(engine, counts)
    assert one.error is None
    assert one.previews


def test_an_edit_cancelled_at_a_preview_ends(engine: Engine, counts: Counts) -> None:
    one = Edit(engine, noise(1), Parameters(prompt="strings", seed=1, steps=128), previews=8)
    one.on_preview = lambda done: one.job.stop(CANCEL)
    one.start().wait()
    settle(engine, counts)
    assert one.error is CANCEL
    assert len(one.previews) == 1
