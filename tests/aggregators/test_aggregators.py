"""What every aggregator promises, and PCGrad against the paper on whole vectors. Shapes: T tasks, W weights of the trunk."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polytask.aggregators.base import GramianAggregator, aggregators


def weighing(name: str, **options: object) -> GramianAggregator:
    """Return a member that says with which weights gradients are added up."""
    member = aggregators.create(name, **options)
    assert isinstance(member, GramianAggregator)
    return member


def gradients(tasks: int, seed: int = 0, width: int = 6) -> Tensor:
    return torch.randn(tasks, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def weigh(aggregator: GramianAggregator, gradient_TW: Tensor, seed: int = 0) -> Tensor:
    return aggregator.weights(gradient_TW @ gradient_TW.T, torch.Generator().manual_seed(seed))


BY_WEIGHTS = [name for name in aggregators.names() if issubclass(aggregators.member(name), GramianAggregator)]


@pytest.fixture(params=BY_WEIGHTS)
def aggregator(request: pytest.FixtureRequest) -> GramianAggregator:
    return weighing(request.param)


@pytest.mark.parametrize("tasks", [1, 2, 3, 5])
def test_every_task_gets_a_finite_weight(aggregator: GramianAggregator, tasks: int) -> None:
    weights_T = weigh(aggregator, gradients(tasks))
    assert weights_T.shape == (tasks,)
    assert weights_T.dtype is torch.float64
    assert weights_T.isfinite().all()


def test_one_task_alone_keeps_the_direction_of_its_gradient(aggregator: GramianAggregator) -> None:
    assert weigh(aggregator, gradients(1)).item() > 0


def test_a_constant_weight_is_the_one_that_the_gramian_gets(aggregator: GramianAggregator) -> None:
    for tasks in (1, 2, 3):
        constant = aggregator.constant(tasks)
        weights_T = weigh(aggregator, gradients(tasks))
        assert constant is None or weights_T.tolist() == [pytest.approx(constant)] * tasks
    apart = not torch.allclose(weigh(aggregator, gradients(3, 1)), weigh(aggregator, gradients(3, 2)))
    assert apart == (aggregator.constant(3) is None)


def test_the_same_generator_draws_the_same_and_the_default_one_is_left_alone(aggregator: GramianAggregator) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    other = type(aggregator)()
    assert torch.equal(weigh(aggregator, gradients(4), seed=1), weigh(other, gradients(4), seed=1))
    torch.rand(10)
    torch.manual_seed(7)
    assert torch.equal(weigh(aggregator, gradients(4, 1), seed=2), weigh(other, gradients(4, 1), seed=2))
    torch.manual_seed(0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_task_without_a_gradient_does_no_harm(aggregator: GramianAggregator) -> None:
    gradient_TW = gradients(3)
    gradient_TW[1] = 0
    assert weigh(aggregator, gradient_TW).isfinite().all()
    assert weigh(aggregator, torch.zeros(3, 6, dtype=torch.float64)).isfinite().all()


def lines(*factors: float) -> Tensor:
    return torch.tensor(factors, dtype=torch.float64)[:, None] * gradients(1)


AWKWARD = {
    "opposed": lines(1, -1),
    "opposed, of two lengths": lines(1, -3),
    "nearly opposed": lines(1, -1) + 1e-9 * gradients(2, 1),
    "the same": lines(1, 1, 1),
    "on one line": lines(1, 2, -1, 0.5),
    "tiny": 1e-12 * gradients(3),
    "huge": 1e12 * gradients(3),
    "of three sizes": torch.tensor([[1e-3], [1.0], [1e3]], dtype=torch.float64) * gradients(3),
    "one that is zero": 0 * gradients(1),
    "more than dimensions": gradients(8, width=3),
}


@pytest.mark.parametrize("gradient_TW", AWKWARD.values(), ids=list(AWKWARD))
def test_awkward_gradients_have_a_finite_combination(aggregator: GramianAggregator, gradient_TW: Tensor) -> None:
    for seed in range(3):
        weights_T = weigh(aggregator, gradient_TW, seed)
        assert weights_T.shape == (len(gradient_TW),)
        assert weights_T.isfinite().all()
        assert (weights_T.float() @ gradient_TW.float()).isfinite().all()


def test_the_gramian_is_not_written_to(aggregator: GramianAggregator) -> None:
    gradient_TW = gradients(3)
    gramian_TT = gradient_TW @ gradient_TW.T
    kept_TT = gramian_TT.clone()
    aggregator.weights(gramian_TT, torch.Generator())
    assert torch.equal(gramian_TT, kept_TT)


def test_its_state_goes_on_as_if_nothing_had_happened(aggregator: GramianAggregator) -> None:
    weigh(aggregator, gradients(3))
    again = type(aggregator)()
    again.load_state_dict({name: tensor.clone() for name, tensor in aggregator.state_dict().items()})
    assert torch.equal(weigh(again, gradients(3, 5)), weigh(aggregator, gradients(3, 5)))
    assert torch.equal(weigh(again, gradients(2, 6)), weigh(aggregator, gradients(2, 6)))


def test_members_differ_pairwise() -> None:
    found = {}
    for name in aggregators.names():
        member = aggregators.create(name)
        member.combine(gradients(3, 1), torch.Generator().manual_seed(0))  # GradVac's first step is PCGrad's
        found[name] = member.combine(gradients(3, 2), torch.Generator().manual_seed(0))
    for a, b in combinations(found, 2):
        assert not torch.allclose(found[a], found[b]), f"{a} and {b} are the same"


def test_sum_and_mean_by_hand() -> None:
    assert weigh(weighing("sum"), gradients(4)).tolist() == [1.0] * 4
    assert weigh(weighing("mean"), gradients(4)).tolist() == [0.25] * 4


def pcgrad_on_vectors(gradient_TW: Tensor, generator: torch.Generator) -> Tensor:
    """Return Σ gᵢᴾᶜ by algorithm 1 of Yu et al. (2020), on the gradients themselves."""
    projected = []
    for i, own_W in enumerate(gradient_TW):
        own_W = own_W.clone()
        for j in torch.randperm(len(gradient_TW), generator=generator).tolist():
            if j != i and own_W @ gradient_TW[j] < 0:
                own_W -= own_W @ gradient_TW[j] / gradient_TW[j].square().sum() * gradient_TW[j]
        projected.append(own_W)
    return torch.stack(projected).sum(0)


@given(st.integers(1, 6), st.integers(0, 10_000), st.sampled_from([2, 3, 40]))
def test_pcgrad_is_the_papers_algorithm_on_vectors(tasks: int, seed: int, width: int) -> None:
    gradient_TW = gradients(tasks, seed, width)
    weights_T = weigh(weighing("pcgrad"), gradient_TW, seed)
    wanted_W = pcgrad_on_vectors(gradient_TW, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(weights_T @ gradient_TW, wanted_W, atol=1e-9, rtol=1e-9)


def test_pcgrad_of_two_opposed_gradients_conflicts_with_neither() -> None:
    gradient_TW = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    combined_W = weigh(weighing("pcgrad"), gradient_TW) @ gradient_TW
    # g₁ − (g₁·g₂/‖g₂‖²) g₂ = (½, ½) and g₂ − (g₂·g₁/‖g₁‖²) g₁ = (0, 1)
    assert combined_W.tolist() == [pytest.approx(0.5), pytest.approx(1.5)]
    assert (gradient_TW @ combined_W >= 0).all()


def test_pcgrad_leaves_gradients_that_agree_alone() -> None:
    assert weigh(weighing("pcgrad"), gradients(4).abs()).tolist() == [1.0] * 4


@pytest.mark.parametrize("name", aggregators.names())
def test_every_member_combines_gradients_of_anybodys(name: str) -> None:
    gradients_Tn = gradients(3, width=50).float()
    kept_Tn = gradients_Tn.clone()
    member = aggregators.create(name)
    combined_n = member.combine(gradients_Tn, torch.Generator().manual_seed(1))
    assert combined_n.shape == (50,)
    assert combined_n.dtype == torch.float32
    assert combined_n.isfinite().all()
    assert torch.equal(gradients_Tn, kept_Tn)
    again_n = aggregators.create(name).combine(gradients_Tn, torch.Generator().manual_seed(1))
    assert torch.equal(combined_n, again_n)
    assert aggregators.create(name).combine(gradients_Tn).shape == (50,)


@pytest.mark.parametrize("name", aggregators.names())
def test_tasks_that_agree_are_followed(name: str) -> None:
    gradient_n = gradients(1, width=40)[0].float()
    combined_n = aggregators.create(name).combine(torch.stack([gradient_n, 2.0 * gradient_n]))
    assert torch.cosine_similarity(combined_n, gradient_n, dim=0).item() == pytest.approx(1.0, abs=1e-4)
