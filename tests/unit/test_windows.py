"""Windows against one piece: what they cover, how they hand over, what a solve makes of them."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from melodyflow import edit, flow
from melodyflow.flow import Solve
from melodyflow.model.transformer import Row
from melodyflow.windows import HANDOVERS, Region, Windows

LENGTHS = [(1, 750), (750, 750), (751, 750), (937, 750), (1000, 750), (1313, 750), (15000, 750)]
LENGTHS += [(9, 8), (15, 8), (100, 8), (7, 2), (100, 50)]
lengths = pytest.mark.parametrize(("frames", "window"), LENGTHS)


@lengths
def test_windows_are_evenly_spaced_and_cover_every_frame(frames: int, window: int) -> None:
    windows = Windows(frames, window)
    covered = windows.cut(torch.arange(frames))
    assert covered[0][0] == 0
    assert covered[-1][-1] == frames - 1
    assert {len(seen) for seen in covered} == {min(frames, window)}
    steps = {int(b[0] - a[0]) for a, b in pairwise(covered)}
    assert not steps or max(steps) - min(steps) <= 1
    assert max(steps, default=0) <= window - max(1, window // HANDOVERS), "they overlap"


def test_the_fewest_windows_are_taken() -> None:
    counts = [len(Windows(frames, 750)) for frames in (750, 751, 1313, 1314, 3000, 6000, 15000)]
    assert counts == [1, 2, 2, 3, 5, 11, 27]


@lengths
def test_the_blend_of_equal_velocities_is_that_velocity(frames: int, window: int) -> None:
    windows = Windows(frames, window)
    one = torch.randn(2, 3, frames, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(windows.blend(windows.cut(one)), one, rtol=0, atol=1e-6)


def test_up_to_the_window_nothing_is_done() -> None:
    windows = Windows(750, 750)
    velocity = torch.randn(2, 3, 750)
    (seen,) = windows.cut(velocity)
    assert seen.data_ptr() == velocity.data_ptr()
    assert seen.shape == velocity.shape
    assert windows.blend([velocity]) is velocity


# --- a network that answers f(frame) + c * window ----------------------------------------------

C = 3.0


def seam(frames: int, window: int, *, blended: bool) -> Tensor:
    """The velocity of a field that is the same in all windows but for c * window, less that
    field."""
    windows = Windows(frames, window)
    field = torch.sin(torch.arange(frames) / 7.0)
    answers = [seen + C * k for k, seen in enumerate(windows.cut(field))]
    if blended:
        return windows.blend(answers) - field
    cut = torch.empty(frames)
    for frames_seen, answer in zip(windows.cut(torch.arange(frames)), answers, strict=True):
        cut[frames_seen] = answer
    return cut - field


@pytest.mark.parametrize("frames", [751, 1000, 1314, 3000])
def test_hard_cuts_jump_and_the_blend_does_not(frames: int) -> None:
    jumps = seam(frames, 750, blended=False).diff().abs()  # each window up to the next one
    assert jumps.max() == pytest.approx(C, rel=1e-5)
    steps = seam(frames, 750, blended=True).diff().abs()
    slope = math.pi / 2 / (750 // HANDOVERS)
    assert steps.max() <= C * slope + 1e-5
    assert steps.max() > 0.9 * C * slope, "the bound is what it is and no looser"


def drive(solve: Solve, windows: Windows, rows_seen: list[int]) -> Tensor:
    """Solves with a velocity that each frame has of its own."""

    def network(rows: list[Row]) -> list[Tensor]:
        rows_seen.append(len(rows))
        return [torch.cos(row.latents) * (1 + row.flowstep) for row in rows]

    times = {t: torch.zeros(1) for t in GRID_DOWN + GRID_UP}
    return edit.drive(network, solve, times, windows)  # type: ignore[arg-type]


GRID_DOWN, GRID_UP = flow.time_grid(1.0, 0.1, 6), flow.time_grid(0.1, 1.0, 6)


@pytest.mark.parametrize("kind", ["euler", "midpoint", "regularised"])
def test_a_solve_in_windows_equals_one_piece_where_frames_do_not_matter_to_each_other(
    kind: str,
) -> None:
    """Noise, guidance and the KL step are global: their patches lie across the windows' borders."""
    x = torch.randn(1, 8, 131, generator=torch.Generator().manual_seed(0))

    def solve() -> Solve:
        if kind == "regularised":
            rng = torch.Generator().manual_seed(1)
            return flow.regularised_inversion(
                x, GRID_DOWN, None, iterations=3, keep=2, lambda_kl=0.2, rng=rng
            )
        return flow.solve("midpoint" if kind == "midpoint" else "euler", x, GRID_UP, None, 0.0)

    whole: list[int] = []
    parts: list[int] = []
    one = drive(solve(), Windows(131, 131), whole)
    joint = drive(solve(), Windows(131, 30), parts)
    torch.testing.assert_close(joint, one, rtol=0, atol=1e-5)
    assert len(parts) == len(Windows(131, 30)) * len(whole)


# --- regions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["euler", "midpoint"])
@pytest.mark.parametrize("window", [131, 30])
def test_outside_of_a_region_a_solve_ends_on_the_source(solver: str, window: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, source = (torch.randn(1, 8, 131, generator=generator) for _ in range(2))

    def solve() -> Solve:
        return flow.solve("midpoint" if solver == "midpoint" else "euler", x, GRID_UP, None, 0.0)

    whole = drive(solve(), Windows(131, window), [])
    part = drive(solve(), Windows(131, window, Region(source, 40, 77)), [])
    outside = torch.cat((part[..., :40] - source[..., :40], part[..., 77:] - source[..., 77:]), -1)
    assert outside.abs().max() < 1e-5
    torch.testing.assert_close(part[..., 40:77], whole[..., 40:77], rtol=0, atol=1e-5)


def test_a_region_asks_only_the_windows_that_it_needs() -> None:
    source = torch.zeros(1, 8, 15000)
    assert len(Windows(15000, 750)) == 27
    assert len(Windows(15000, 750, Region(source, 5000, 5200))) <= 3
    assert len(Windows(15000, 750, Region(source, 0, 100))) == 1
    assert len(Windows(700, 750, Region(source[..., :700], 0, 100))) == 1


def test_the_shortest_way_to_the_source_is_finite() -> None:
    region = Region(torch.zeros(1, 2, 3), 0, 1)
    assert torch.isfinite(region.hold(torch.zeros(1, 2, 3), torch.ones(1, 2, 3), 1.0)).all()


# --- rings --------------------------------------------------------------------------------------

rings = pytest.mark.parametrize(
    ("frames", "window"),
    [
        *[(1, 750), (2, 750), (25, 750), (374, 750), (375, 750), (376, 750), (562, 750)],
        *[(563, 750), (750, 750), (751, 750), (3000, 750), (5, 8), (8, 8), (9, 8)],
    ],
)


@rings
def test_the_windows_of_a_ring_wrap_and_blend_to_the_same(frames: int, window: int) -> None:
    windows = Windows(frames, window, ring=True)
    one = torch.randn(2, 3, frames, generator=torch.Generator().manual_seed(0))
    seen = windows.cut(one)
    torch.testing.assert_close(windows.blend(seen), one, rtol=0, atol=1e-6)
    assert {part.shape[-1] for part in seen} == {min(window, 2 * frames)}
    for part in windows.cut(torch.arange(frames)):
        assert ((part.diff() - 1) % frames == 0).all(), (
            "neighbours stay neighbours, round and round"
        )


@rings
def test_on_a_ring_no_frame_is_a_border(frames: int, window: int) -> None:
    """Windows that answer with how near to their own border a frame is: none counts there."""
    windows = Windows(frames, window, ring=True)
    answers = []
    for seen in windows.cut(torch.zeros(frames)):
        position = torch.arange(len(seen))
        answers.append(torch.minimum(position, position.flip(0)) + 1.0)
    inner = windows.blend(answers).min()
    assert inner >= min(frames, window // HANDOVERS) / 8


def test_a_ring_of_one_window_is_continuous_where_it_closes() -> None:
    windows = Windows(100, 750, ring=True)
    (seen,) = windows.cut(torch.zeros(100))
    closed = windows.blend([torch.arange(len(seen)) / 100.0])
    steps = torch.cat((closed, closed[:1])).diff().abs()
    assert steps.max() < 0.03, "a hard cut would jump by 1"
