"""Previews: decoded beside the step loop, and never in an edit's way."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest
import torch

from melodyflow.contract import preview_steps
from melodyflow.edit import Parameters
from melodyflow.engine import Engine
from melodyflow.model import MelodyFlow

from .test_engine import CANCEL, WAIT, Counts, Edit, make_engine, noise, settle


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
    decoded = threading.Semaphore(0)
    one.on_preview = lambda done: decoded.release()

    def as_fast_as_the_steps(stage: str, done: int) -> None:
        if stage == "generating" and done - 1 in one.job.previews:
            assert decoded.acquire(timeout=WAIT)

    one.on_step = as_fast_as_the_steps
    one.start().wait()
    settle(engine, counts)
    assert one.error is None
    first = one.job.parameters.inversion_evaluations
    assert [done - first for done, _ in one.previews] == [2, 4, 6]
    assert one.result is not None
    for _, preview in one.previews:
        assert torch.allclose(preview, one.result, atol=1e-4 * float(one.result.abs().max()))


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
