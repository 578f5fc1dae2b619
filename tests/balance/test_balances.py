"""What every loss balance promises. Shapes: T tasks."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from polytask.balance.base import LossBalance, balances

GIVEN = [1.0, 5.0, 0.5]
EPOCH = 2


def new(name: str) -> LossBalance:
    return balances.create(name, torch.tensor(GIVEN), EPOCH)


def run(balance: LossBalance, steps: range, absent: bool = True) -> list[Tensor]:
    """Let a balance see some steps, in every third of which a task is absent, and return the weights of each."""
    seen = []
    for step in steps:
        losses_T = torch.rand(3, generator=torch.Generator().manual_seed(step)) + torch.tensor([0.1, 1.0, 4.0])
        if absent and step % 3 == 1:
            losses_T[step % 2] = torch.nan
        seen.append(balance.weights(losses_T if balance.uses_losses else None).clone())
        balance.observe(losses_T, losses_T * torch.tensor([0.9, 1.1, 0.5]) if balance.looks_again else None)
    return seen


@pytest.fixture(params=balances.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_task_has_a_finite_weight(name: str) -> None:
    for weights_T in run(new(name), range(9)):
        assert weights_T.shape == (3,)
        assert weights_T.isfinite().all()
        assert (weights_T >= 0).all()
        assert weights_T.sum() > 0


def test_every_task_with_rows_has_a_positive_weight(name: str) -> None:
    for weights_T in run(new(name), range(9), absent=False):
        assert (weights_T > 0).all()


def test_a_single_task(name: str) -> None:
    balance = balances.create(name, torch.tensor([2.0]), EPOCH)
    for _ in range(5):
        losses_T = torch.tensor([0.3])
        weights_T = balance.weights(losses_T if balance.uses_losses else None)
        assert weights_T.shape == (1,)
        assert weights_T.item() > 0
        balance.observe(losses_T, losses_T if balance.looks_again else None)


def test_its_weights_change_if_it_says_that_it_adapts(name: str) -> None:
    first_T, *later = run(new(name), range(12))
    assert any(not torch.equal(first_T, weights_T) for weights_T in later) == balances.member(name).adapts


def test_losses_of_zero_do_no_harm(name: str) -> None:
    balance = new(name)
    for _ in range(5):
        zeros_T = torch.tensor([0.0, 1.0, 0.0])
        assert balance.weights(zeros_T if balance.uses_losses else None).isfinite().all()
        balance.observe(zeros_T, zeros_T if balance.looks_again else None)


def test_asking_twice_changes_nothing(name: str) -> None:
    balance, losses_T = new(name), torch.tensor([0.7, 1.0, 2.0])
    run(balance, range(5))
    given = losses_T if balance.uses_losses else None
    state = {key: tensor.clone() for key, tensor in balance.state_dict().items()}
    assert torch.equal(balance.weights(given), balance.weights(given))
    torch.testing.assert_close(balance.state_dict(), state, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("left", [0, 1, 4, 7])
def test_its_state_goes_on_as_if_nothing_had_happened(name: str, left: int) -> None:
    whole = run(new(name), range(12))
    first, again = new(name), new(name)
    run(first, range(left))
    state = {key: tensor.clone() for key, tensor in first.state_dict().items()}
    run(first, range(left, 12))  # what was saved is not what goes on
    again.load_state_dict(state)
    for one, other in zip(run(again, range(left, 12)), whole[left:], strict=True):
        assert torch.equal(one, other)


def test_its_state_is_tensors_that_a_checkpoint_holds(name: str) -> None:
    balance = new(name)
    run(balance, range(3))
    for tensor in balance.state_dict().values():
        assert tensor.dtype in (torch.float32, torch.float64, torch.int64)
        assert tensor.is_contiguous()


def test_the_recipes_factors_multiply(name: str) -> None:
    balance = balances.create(name, torch.tensor([1.0, 3.0, 1.0]), EPOCH)
    plain = balances.create(name, torch.ones(3), EPOCH)
    losses_T = torch.tensor([0.7, 1.0, 2.0])
    first_T, second_T = (b.weights(losses_T if b.uses_losses else None) for b in (balance, plain))
    torch.testing.assert_close(first_T, second_T * torch.tensor([1.0, 3.0, 1.0]))


def test_members_differ_pairwise() -> None:
    found = {name: run(new(name), range(8))[-1].double() for name in balances.names()}
    for a, b in combinations(found, 2):
        assert not torch.allclose(found[a], found[b]), f"{a} and {b} are the same"


def test_fixed_weights_are_those_of_the_recipe() -> None:
    fixed = new("fixed")
    fixed.observe(torch.tensor([9.0, 9.0, 9.0]), None)
    assert fixed.weights(None).tolist() == GIVEN
