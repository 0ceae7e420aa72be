"""The fused network of a GPU, as far as a CPU runs it: the same code, with attention written out
and recordings that run their work again."""

import logging
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from melodyflow.model import MelodyFlow
from melodyflow.model.fused import FusedFlow, can_compile
from melodyflow.model.fused.layout import Layout, padded
from melodyflow.model.fused.recording import NotRecorded
from melodyflow.model.transformer import FlowModel, Row
from melodyflow.tools.make_checkpoint import random_model

WINDOW = 30
FLOWSTEPS = [0.0, 0.12, 0.5, 1.0]


@pytest.fixture(scope="module")
def model() -> MelodyFlow:
    return random_model("tiny")


class Rerun:
    """Records work by keeping it."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.recorded += 1
        result = torch.full_like(work(), torch.nan)

        def replay() -> None:
            result.copy_(work())

        return replay, result


def rows_of(flow: FlowModel, described: list[tuple[int, int, int | None]], seed: int) -> list[Row]:
    """Rows of (frames, which flowstep, tokens of the text)."""
    rng = torch.Generator().manual_seed(seed)
    times = flow.embed_times(FLOWSTEPS)
    texts = {
        tokens: flow.read_text(torch.randn(tokens, flow.config.dim, generator=rng))
        for tokens in sorted({tokens for _, _, tokens in described if tokens})
    }
    return [
        Row(
            torch.randn(flow.config.latent_dim, frames, generator=rng),
            FLOWSTEPS[step],
            times[FLOWSTEPS[step]],
            texts[tokens] if tokens else None,
        )
        for frames, step, tokens in described
    ]


def error(found: list[Tensor], expected: list[Tensor]) -> float:
    assert [x.shape for x in found] == [x.shape for x in expected]
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)
    )


described_rows = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 29, WINDOW, 31, 64]),
        st.integers(0, len(FLOWSTEPS) - 1),
        st.sampled_from([None, 1, 5, 70]),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=8, deadline=None)
@given(st.lists(described_rows, min_size=1, max_size=3))
@torch.inference_mode()
def test_any_rows_get_the_flows_velocities_recorded_or_not(
    model: MelodyFlow, calls: list[list[tuple[int, int, int | None]]]
) -> None:
    fused = FusedFlow(model.flow, WINDOW, record=Rerun())
    for seed, described in enumerate(calls * 3):  # a size's first call, its recording, a replay
        rows = rows_of(model.flow, described, seed)
        assert error(fused(rows), model.flow(rows)) < 1e-5


@torch.inference_mode()
def test_a_size_is_recorded_once_and_serves_other_lengths(model: MelodyFlow) -> None:
    record = Rerun()
    fused = FusedFlow(model.flow, WINDOW, record=record)
    for frames in (40, 41, 50, 64, 3):  # all padded to 64
        rows = rows_of(model.flow, [(frames, 1, None)], frames)
        assert error(fused(rows), model.flow(rows)) < 1e-5
    assert record.recorded == 1


@torch.inference_mode()
def test_where_nothing_can_be_recorded_all_is_done_as_it_comes(
    model: MelodyFlow, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        raise NotRecorded("no graphs here")

    fused = FusedFlow(model.flow, WINDOW, record=refuse)
    rows = rows_of(model.flow, [(20, 1, 5), (20, 1, None)], 0)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            assert error(fused(rows), model.flow(rows)) < 1e-5
    assert [record.getMessage() for record in caplog.records] == [
        "calls of 128 tokens can't be recorded: no graphs here"
    ]


@given(st.integers(1, 20000))
def test_padding_is_bounded(tokens: int) -> None:
    size = padded(tokens)
    assert tokens <= size == padded(size)
    assert size - tokens < (64 if tokens <= 512 else tokens / (8 if tokens <= 4096 else 16))


def test_windows_alone_are_not_padded() -> None:
    layout = Layout.of([750, 750], [750], [4, 9], 750, torch.device("cpu"))
    assert (layout.size.told, layout.size.null, layout.size.frames) == (1500, 750, 750)
    mixed = Layout.of([750, 749], [750], [4, 9], 750, torch.device("cpu"))
    assert mixed.size.frames == 0


@torch.inference_mode()
def test_compiled_parts_give_the_same_numbers_for_any_size(model: MelodyFlow) -> None:
    if not can_compile(torch.device("cpu")):
        pytest.skip("no compiler")
    fused = FusedFlow(model.flow, WINDOW)
    fused.compile()
    for seed, described in enumerate(
        ([(20, 1, 5), (20, 1, None)], [(200, 2, None)], [(7, 0, 70), (130, 3, 5), (9, 1, None)])
    ):
        rows = rows_of(model.flow, described, seed)
        assert error(fused(rows), model.flow(rows)) < 1e-5
