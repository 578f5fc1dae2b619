"""What every loss balance promises. Shapes: T tasks."""

from __future__ import annotations

import pytest
import torch

from polytask.balance.base import LossBalance, balances

GIVEN = [1.0, 5.0, 0.5]


@pytest.fixture(params=balances.names())
def balance(request: pytest.FixtureRequest) -> LossBalance:
    return balances.create(request.param, torch.tensor(GIVEN))


def test_every_task_has_a_positive_finite_weight(balance: LossBalance) -> None:
    for _ in range(3):
        weights_T = balance.weights()
        assert weights_T.shape == (3,)
        assert weights_T.isfinite().all()
        assert (weights_T >= 0).all()
        assert weights_T.sum() > 0
        balance.observe(torch.tensor([0.7, float("nan"), 2.0]))


def test_asking_twice_changes_nothing(balance: LossBalance) -> None:
    assert torch.equal(balance.weights(), balance.weights())


def test_its_state_goes_on_as_if_nothing_had_happened(balance: LossBalance) -> None:
    balance.observe(torch.tensor([0.7, 1.0, 2.0]))
    again = type(balance)(torch.tensor(GIVEN))
    again.load_state_dict({name: tensor.clone() for name, tensor in balance.state_dict().items()})
    for one in (balance, again):
        one.observe(torch.tensor([0.1, float("nan"), 3.0]))
    assert torch.equal(again.weights(), balance.weights())


def test_fixed_weights_are_those_of_the_recipe() -> None:
    fixed = balances.create("fixed", torch.tensor(GIVEN))
    fixed.observe(torch.tensor([9.0, 9.0, 9.0]))
    assert fixed.weights().tolist() == GIVEN
