"""Solvers against known solutions, the closed-form KL step against autograd."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from melodyflow import flow
from melodyflow.flow import Solve

Field = Callable[[Tensor, float], Tensor]


def drive(solve: Solve, field: Field) -> tuple[Tensor, list[float]]:
    """Runs a solve on a known field; also the flowsteps it asked at."""
    asked = []
    try:
        point = next(solve)
        while True:
            asked.append(point.flowstep)
            point = solve.send(field(point.latents, point.flowstep))
    except StopIteration as end:
        return end.value, asked


def test_grid_has_the_published_nodes() -> None:
    up = flow.time_grid(0.0, 1.0, 25)
    assert [round(t, 4) for t in up[:4]] == [0, 0.0096, 0.0223, 0.0382]
    assert [round(t, 4) for t in up[-3:]] == [0.8837, 0.9418, 1]
    assert flow.time_grid(1.0, 0.0, 25) == pytest.approx(up[::-1], abs=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 25, 64, 128])
@pytest.mark.parametrize("flowstep", [0.0, 0.12, 0.9])
def test_grid_has_its_ends_and_length(steps: int, flowstep: float) -> None:
    up, down = flow.time_grid(flowstep, 1.0, steps), flow.time_grid(1.0, flowstep, steps)
    assert len(up) == len(down) == steps + 1
    assert (up[0], up[-1]) == pytest.approx((flowstep, 1))
    assert (down[0], down[-1]) == pytest.approx((1, flowstep))
    assert up == sorted(up)


def test_solvers_converge_at_their_order() -> None:
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    errors = {
        (solver, steps): abs(
            drive(
                flow.solve(solver, x, flow.time_grid(0.0, 1.0, steps), None, 0.0),
                lambda y, t: y * t,
            )[0].item()
            - math.exp(0.5)
        )
        for solver in ("euler", "midpoint")
        for steps in (32, 64)
    }
    assert errors["euler", 32] / errors["euler", 64] == pytest.approx(2, rel=0.1)
    # The swayed middle node is off the arithmetic middle, which leaves the order just below two.
    assert errors["midpoint", 32] / errors["midpoint", 64] > 3


def test_solvers_ask_once_a_step() -> None:
    x, grid = torch.zeros(1, 4, 4), flow.time_grid(0.2, 1.0, 8)
    for solver in (flow.euler, flow.midpoint):
        assert drive(solver(x, grid, None, 0.0), lambda y, t: y)[1] == grid[:-1]


def test_regularised_inversion_asks_where_it_goes_to_and_averages() -> None:
    x, grid = torch.randn(1, 8, 9), flow.time_grid(1.0, 0.1, 3)
    solve = flow.regularised_inversion(
        x, grid, None, iterations=4, keep=2, lambda_kl=0.0, rng=torch.Generator().manual_seed(1)
    )
    velocities: list[float] = []

    def field(y: Tensor, t: float) -> Tensor:
        velocities.append(float(len(velocities)))
        return torch.full_like(y, velocities[-1])

    result, asked = drive(solve, field)
    assert asked == [t for t in grid[1:] for _ in range(4)]
    # Without regularisation the kept velocities are averaged with weights 2/5 and 3/5.
    steps = [there - here for here, there in pairwise(grid)]
    moved = sum(dt * (0.4 * (4 * i + 2) + 0.6 * (4 * i + 3)) for i, dt in enumerate(steps))
    torch.testing.assert_close(result, x + moved)


@pytest.mark.parametrize("shape", [(1, 8, 12), (1, 16, 33), (1, 6, 7), (1, 8, 3), (1, 3, 8)])
def test_kl_step_is_the_gradient_descent_it_stands_for(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    velocity, reference = torch.randn(shape), torch.randn(shape) * 0.5 + 0.3
    expected = velocity.clone()
    channels, frames = shape[1] // 4 * 4, shape[2] // 4 * 4
    for _ in range(4):
        leaf = expected.clone().requires_grad_()
        total = torch.zeros(())
        for c in range(0, channels, 4):
            for f in range(0, frames, 4):
                v = leaf[:, c : c + 4, f : f + 4].reshape(-1)
                r = reference[:, c : c + 4, f : f + 4].reshape(-1)
                var_v, var_r = v.var() + 1e-6, r.var() + 1e-6
                kl = torch.log(var_r / var_v) + (v.var() + (v.mean() - r.mean()) ** 2) / var_r - 1
                total = total + kl.abs()
        if total.requires_grad:
            (gradient,) = torch.autograd.grad(total, leaf)
            expected = expected - 0.2 * gradient.clamp(-100, 100)
    torch.testing.assert_close(
        flow.kl_step(velocity, reference, 0.2), expected, atol=1e-5, rtol=1e-5
    )


def test_guidance() -> None:
    assert flow.guided(torch.tensor(2.0), torch.tensor(1.0), 4.0).item() == 6.0
