"""Members against what their papers ask of them, on whole gradients. Shapes: T tasks, W weights of the trunk."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from polytask.aggregators.base import Aggregator, GramianAggregator, aggregators
from polytask.errors import RecipeError


def weighing(name: str, **options: object) -> GramianAggregator:
    """Return a member that says with which weights gradients are added up."""
    member = aggregators.create(name, **options)
    assert isinstance(member, GramianAggregator)
    return member


SEEDS = st.integers(0, 10_000)


def gradients(tasks: int, seed: int, width: int = 7) -> Tensor:
    return torch.randn(tasks, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def combine(aggregator: Aggregator, gradient_TW: Tensor, seed: int = 0) -> Tensor:
    return aggregator.combine(gradient_TW, torch.Generator().manual_seed(seed))


# -- MGDA --------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 6), SEEDS, st.sampled_from([2, 3, 40]))
def test_mgda_is_the_shortest_combination(tasks: int, seed: int, width: int) -> None:
    gradient_TW = gradients(tasks, seed, width)
    combined_W = combine(aggregators.create("mgda"), gradient_TW)
    # v is the point of the hull that is nearest to 0 just when gᵢ · v ≥ v · v for all i
    assert (gradient_TW @ combined_W >= combined_W @ combined_W - 1e-9).all()


@pytest.mark.parametrize("seed", range(5))
def test_mgda_is_what_a_search_over_the_simplex_finds(seed: int) -> None:
    gradient_TW = gradients(3, seed)
    weights_T = weighing("mgda").weights(gradient_TW @ gradient_TW.T, torch.Generator())
    steps = np.linspace(0, 1, 201)
    grid_S3 = torch.tensor([(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1], dtype=torch.float64)
    nearest = (grid_S3 @ gradient_TW).norm(dim=1).min()
    length = (weights_T @ gradient_TW).norm()
    assert weights_T.sum().item() == pytest.approx(1.0)
    assert (weights_T >= 0).all()
    assert nearest - 0.05 <= length <= nearest + 1e-9


def test_mgda_of_two_tasks_by_hand() -> None:
    gradient_TW = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    # Sener & Koltun 2018, eq. 4: α = (g₂ − g₁) · g₂ / ‖g₁ − g₂‖² = 1/5
    weights_T = weighing("mgda").weights(gradient_TW @ gradient_TW.T, torch.Generator())
    assert weights_T.tolist() == [pytest.approx(0.2), pytest.approx(0.8)]


# -- CAGrad ------------------------------------------------------------------------------------------------------------


def best_in_the_ball(gradient_TW: Tensor, c: float) -> float:
    """Return max over d of min gᵢ · d subject to ‖d − g₀‖ ≤ c ‖g₀‖, the paper's eq. 1, solved as it stands."""
    rows, mean_W = gradient_TW.numpy(), gradient_TW.mean(0).numpy()
    radius = c * float(np.linalg.norm(mean_W))
    least = {"type": "ineq", "fun": lambda x: rows @ x[:-1] - x[-1]}
    ball = {"type": "ineq", "fun": lambda x: radius**2 - ((x[:-1] - mean_W) ** 2).sum()}
    start = np.append(mean_W, (rows @ mean_W).min())
    found = minimize(
        lambda x: -x[-1], start, method="SLSQP", constraints=[least, ball], options={"maxiter": 500, "ftol": 1e-12}
    )
    return float(-found.fun)


@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_cagrad_helps_the_worst_task_as_much_as_the_ball_allows(tasks: int, c: float) -> None:
    for seed in range(4):
        gradient_TW = gradients(tasks, seed)
        combined_W = combine(aggregators.create("cagrad", c=c), gradient_TW)
        mean_W = gradient_TW.mean(0)
        assert (combined_W - mean_W).norm() <= c * mean_W.norm() * (1 + 1e-6)
        assert (gradient_TW @ combined_W).min().item() == pytest.approx(best_in_the_ball(gradient_TW, c), abs=1e-5)


def test_cagrad_in_no_ball_is_the_average() -> None:
    torch.testing.assert_close(combine(aggregators.create("cagrad", c=0.0), gradients(3, 0)), gradients(3, 0).mean(0))


# -- UPGrad ------------------------------------------------------------------------------------------------------------


def projected(gradient_W: Tensor, gradient_TW: Tensor) -> Tensor:
    """Return the nearest vector to a gradient that conflicts with none."""
    rows, wanted_W = gradient_TW.numpy(), gradient_W.numpy()
    found = minimize(
        lambda x_W: ((x_W - wanted_W) ** 2).sum(),
        np.zeros_like(wanted_W),
        jac=lambda x_W: 2 * (x_W - wanted_W),
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda x_W: rows @ x_W, "jac": lambda x_W: rows},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return torch.from_numpy(found.x)


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_upgrad_averages_the_projections(tasks: int) -> None:
    for seed in range(4):
        gradient_TW = gradients(tasks, seed) * torch.logspace(-1, 1, tasks, dtype=torch.float64)[:, None]
        wanted_W = torch.stack([projected(gradient_W, gradient_TW) for gradient_W in gradient_TW]).mean(0)
        torch.testing.assert_close(combine(aggregators.create("upgrad"), gradient_TW), wanted_W, rtol=1e-4, atol=1e-5)


@given(st.integers(1, 6), SEEDS)
def test_upgrad_conflicts_with_no_task(tasks: int, seed: int) -> None:
    gradient_TW = gradients(tasks, seed)
    assert (gradient_TW @ combine(aggregators.create("upgrad"), gradient_TW) >= -1e-9).all()


# -- IMTL-G, FairGrad, Nash-MTL ----------------------------------------------------------------------------------------


@given(st.integers(1, 5), SEEDS)
def test_imtl_g_has_equal_projections(tasks: int, seed: int) -> None:
    gradient_TW = gradients(tasks, seed, 9)
    combined_W = combine(aggregators.create("imtl_g"), gradient_TW)
    along_T = gradient_TW @ combined_W / gradient_TW.norm(dim=1)
    torch.testing.assert_close(along_T, along_T.mean().expand(tasks), rtol=1e-6, atol=1e-6)


def test_imtl_g_may_climb_every_loss_as_its_formula_does() -> None:
    cosine_TT = torch.tensor([[1.0, 0.6, 0.6], [0.6, 1.0, 0.0], [0.6, 0.0, 1.0]], dtype=torch.float64)
    norms_T = torch.tensor([1.0, 10.0, 10.0], dtype=torch.float64)
    weights_T = weighing("imtl_g").weights(cosine_TT * norms_T * norms_T[:, None], torch.Generator())
    # Equal projections p are C(Dα) = p 1, and Σα = 1 then says p: here −7/3.
    along_T = torch.linalg.solve(cosine_TT, torch.ones(3, dtype=torch.float64)) / norms_T
    torch.testing.assert_close(weights_T, along_T / along_T.sum())
    projections_T = cosine_TT @ (norms_T * weights_T)
    assert projections_T.tolist() == [pytest.approx(-7 / 3)] * 3


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_fairgrad_is_fair(alpha: float, size: float) -> None:
    for seed in range(3):
        gradient_TW = size * gradients(3, seed)
        gramian_TT = gradient_TW @ gradient_TW.T
        weights_T = weighing("fairgrad", alpha=alpha).weights(gramian_TT, torch.Generator())
        torch.testing.assert_close(gramian_TT @ weights_T, weights_T ** (-1 / alpha), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize(
    ("alpha", "ratio"),  # the ridge against gradients that cancel out weighs most at a small alpha: .5 ends before 1e6
    [(0.5, 1e2), (0.5, 1e4), *((alpha, ratio) for alpha in (1.0, 2.0) for ratio in (1e2, 1e4, 1e6))],
)
def test_fairgrad_is_fair_whatever_the_sizes(alpha: float, ratio: float) -> None:
    sizes_T1 = torch.tensor([[1.0], [ratio**0.5], [ratio]], dtype=torch.float64)
    for seed in range(10):
        gradient_TW = gradients(3, seed, 12) * sizes_T1
        gramian_TT = gradient_TW @ gradient_TW.T
        weights_T = weighing("fairgrad", alpha=alpha).weights(gramian_TT, torch.Generator())
        fair_T = gramian_TT @ weights_T * weights_T ** (1 / alpha)
        torch.testing.assert_close(fair_T, torch.ones(3).double(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "options"),
    [("nash_mtl", {}), *(("fairgrad", {"alpha": alpha}) for alpha in (0.5, 1.0, 2.0, 5.0))],
)
def test_fairness_stays_quick_where_gradients_cancel_out(
    monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, float]
) -> None:
    one_1W = gradients(1, 0)
    line_TW = torch.cat([one_1W, 2 * one_1W, -one_1W, 0.5 * one_1W])
    solve, solved = torch.linalg.solve, []

    def counted(*systems: Tensor) -> Tensor:
        solved.append(systems)
        found: Tensor = solve(*systems)
        return found

    monkeypatch.setattr(torch.linalg, "solve", counted)
    for gradient_TW in (line_TW[::2], line_TW, line_TW[::2] + 1e-9 * gradients(2, 1)):
        solved.clear()
        weights_T = weighing(name, **options).weights(gradient_TW @ gradient_TW.T, torch.Generator())
        assert weights_T.isfinite().all()
        assert 0 < len(solved) <= 40


@given(st.integers(1, 6), SEEDS, st.sampled_from([1e-6, 1.0, 1e3]))
def test_nash_mtl_is_the_bargain(tasks: int, seed: int, size: float) -> None:
    gradient_TW = gradients(tasks, seed, 30)
    gradient_TW[0] *= size  # the bargain does not care for a task's size
    gramian_TT = gradient_TW @ gradient_TW.T
    weights_T = weighing("nash_mtl").weights(gramian_TT, torch.Generator())
    torch.testing.assert_close(gramian_TT @ weights_T * weights_T, torch.ones(tasks).double(), rtol=1e-4, atol=1e-4)
    assert (weights_T @ gradient_TW).norm().item() == pytest.approx(math.sqrt(tasks), rel=1e-4)


def test_proportional_fairness_is_the_nash_bargain() -> None:
    gradient_TW = gradients(4, 3)
    fair_W = combine(aggregators.create("fairgrad", alpha=1.0), gradient_TW)
    torch.testing.assert_close(fair_W, combine(aggregators.create("nash_mtl"), gradient_TW), rtol=1e-3, atol=1e-4)


# -- GradVac -----------------------------------------------------------------------------------------------------------


def test_gradvac_turns_a_gradient_to_the_usual_cosine() -> None:
    member = weighing("gradvac", beta=1.0)
    near_TW = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    assert combine(member, near_TW).tolist() == [pytest.approx(1.8), pytest.approx(0.6)]  # 0.8 is more than 0
    far_TW = torch.tensor([[2.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    weights_T = member.weights(far_TW @ far_TW.T, torch.Generator())
    for own, other in ((0, 1), (1, 0)):
        turned_W = far_TW[own] + (weights_T[other] - 1) * far_TW[other]
        assert torch.cosine_similarity(turned_W, far_TW[other], dim=0).item() == pytest.approx(0.8)


def test_gradvacs_first_step_is_pcgrads() -> None:
    for seed in range(5):
        one_W, other_W = (combine(aggregators.create(name), gradients(4, seed), seed) for name in ("gradvac", "pcgrad"))
        torch.testing.assert_close(one_W, other_W)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("gradvac", {"beta": 1.5}, "beta is 1.5"),
        ("cagrad", {"c": -0.1}, r"c is -0\.1"),
        ("fairgrad", {"alpha": 0}, r"alpha is 0\.0"),
        ("aligned_mtl", {"scale": "max"}, "'min', 'median' or 'rmse'"),
    ],
)
def test_options_that_mean_nothing_are_refused(name: str, options: dict[str, float | str], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        aggregators.create(name, **options)
