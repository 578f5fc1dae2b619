"""Members against their papers' formulas, written once more. Shapes: T tasks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from polytask.balance.base import balances
from polytask.errors import RecipeError

GIVEN_T = torch.tensor([1.0, 2.0, 0.5])


def losses(step: int) -> Tensor:
    drawn_T = torch.rand(3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
    return drawn_T + torch.tensor([0.1, 1.0, 4.0])


# -- uncertainty -------------------------------------------------------------------------------------------------------


def test_uncertainty_is_what_autograd_and_torchs_adam_learn() -> None:
    balance = balances.create("uncertainty", GIVEN_T, 10, learning_rate=0.05)
    s_T = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([s_T], lr=0.05)
    for step in range(30):
        torch.testing.assert_close(balance.weights(None), GIVEN_T * torch.exp(-s_T.detach()))
        adam.zero_grad()
        (GIVEN_T * ((-s_T).exp() * losses(step) + s_T)).sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
        balance.observe(losses(step), None)
    assert balance.weights(None)[0] / GIVEN_T[0] > 1.5


def test_uncertainty_finds_the_noise() -> None:
    balance = balances.create("uncertainty", torch.ones(3), 10, learning_rate=0.05)
    for _ in range(1000):
        balance.observe(torch.tensor([0.1, 1.0, 5.0]), None)
    assert balance.weights(None).tolist() == pytest.approx([10.0, 1.0, 0.2], rel=1e-3)


def test_uncertainty_leaves_an_absent_task_alone() -> None:
    both, one = (balances.create("uncertainty", torch.ones(2), 10) for _ in range(2))
    for step in range(8):
        both.observe(torch.tensor([2.0, math.nan if step % 2 else 3.0]), None)
        if step % 2 == 0:
            one.observe(torch.tensor([math.nan, 3.0]), None)
    assert one.weights(None)[0] == 1.0
    assert both.weights(None)[1] == one.weights(None)[1] < 1.0


# -- dynamic weight averaging ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "period"), [({}, 4), ({"period": 3}, 3), ({"temperature": 0.5}, 4)])
def test_dwa_is_the_papers_formula(options: dict[str, float], period: int) -> None:
    balance = balances.create("dwa", GIVEN_T, 4, **options)
    temperature = options.get("temperature", 2.0)
    for step in range(20):
        weights_T = balance.weights(None)
        epoch = step // period
        if epoch < 2:
            assert weights_T.tolist() == pytest.approx(GIVEN_T.tolist())
        else:
            epochs = [range(e * period, (e + 1) * period) for e in (epoch - 2, epoch - 1)]
            means = [torch.stack([losses(k) for k in steps]).mean(0) for steps in epochs]
            r = [float(means[1][t] / means[0][t]) for t in range(3)]
            total = sum(math.exp(one / temperature) for one in r)
            wanted = [3 * math.exp(r[t] / temperature) / total * float(GIVEN_T[t]) for t in range(3)]
            assert weights_T.tolist() == pytest.approx(wanted, rel=1e-9)
            assert len({round(weight / float(g), 6) for weight, g in zip(wanted, GIVEN_T, strict=True)}) == 3
        balance.observe(losses(step), None)


def test_dwa_averages_over_the_steps_that_a_task_was_in() -> None:
    balance = balances.create("dwa", torch.ones(2), 2)
    for first, second in [(1.0, math.nan), (3.0, 4.0), (1.0, 2.0), (math.nan, 2.0)]:
        balance.observe(torch.tensor([first, second]), None)
    torch.testing.assert_close(balance.weights(None), 2 * torch.softmax(torch.tensor([0.25, 0.25]).double(), 0))


def test_dwa_keeps_the_average_of_a_task_that_a_period_did_not_have() -> None:
    balance = balances.create("dwa", torch.ones(2), 1)
    for first, second in [(1.0, 4.0), (math.nan, 2.0), (0.5, 1.0)]:
        balance.observe(torch.tensor([first, second]), None)
    torch.testing.assert_close(balance.weights(None), torch.ones(2).double())
    balance.observe(torch.tensor([0.5, 0.1]), None)
    torch.testing.assert_close(balance.weights(None), 2 * torch.softmax(torch.tensor([0.5, 0.05]).double(), 0))


@pytest.mark.parametrize(("options", "acts_from"), [({}, 9), ({"period": 1}, 3)])
def test_dwa_says_where_a_stage_is_too_short_for_it(options: dict[str, int], acts_from: int) -> None:
    for steps in range(1, 12):
        balance = balances.create("dwa", torch.ones(3), 4, **options)
        acted = False
        for step in range(steps):
            acted = acted or not torch.allclose(balance.weights(None), torch.ones(3).double())
            balance.observe(losses(step), None)
        assert acted == (steps >= acts_from)
        assert (balance.too_short(steps) is None) == acted


# -- averaged losses ---------------------------------------------------------------------------------------------------


def test_averaged_losses_weigh_a_share_of_one() -> None:
    assert balances.create("mean", GIVEN_T, 10).weights(None).tolist() == pytest.approx([1 / 3, 2 / 3, 0.5 / 3])


# -- FAMO --------------------------------------------------------------------------------------------------------------


def test_famo_is_algorithm_1() -> None:
    balance = balances.create("famo", GIVEN_T, 10, learning_rate=0.1, decay=0.02)
    xi_T = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([xi_T], lr=0.1, weight_decay=0.02)
    for step in range(30):
        before_T, after_T = losses(step), losses(step) * torch.tensor([0.9, 1.05, 0.5])
        z_T = torch.softmax(xi_T, 0)
        c = 1 / (z_T / before_T).sum()
        torch.testing.assert_close(balance.weights(before_T), (GIVEN_T * c * z_T / before_T).detach())
        adam.zero_grad()
        z_T.backward(before_T.log() - after_T.log())  # type: ignore[no-untyped-call]
        adam.step()
        balance.observe(before_T, after_T)
    last_T = balance.weights(torch.ones(3)) / GIVEN_T
    assert last_T[1] > last_T[0] > last_T[2]  # the loss that fell least weighs most
    assert last_T.sum().item() == pytest.approx(1.0)


def test_famo_weighs_by_the_steps_own_losses() -> None:
    balance = balances.create("famo", torch.ones(2), 10)
    assert balance.weights(torch.tensor([1.0, 3.0])).tolist() == pytest.approx([0.75, 0.25])
    assert balance.weights(torch.tensor([1.0, math.nan])).tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("uncertainty", {"learning_rate": 0}, "learning_rate is 0"),
        ("famo", {"learning_rate": -1}, "learning_rate is -1"),
        ("famo", {"decay": -1}, "decay is -1"),
        ("dwa", {"temperature": 0}, "temperature is 0"),
        ("dwa", {"period": 0}, "period is 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(name: str, options: dict[str, float], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        balances.create(name, torch.ones(2), 10, **options)
