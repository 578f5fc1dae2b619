"""What every pair feature promises. Shapes: N pairs, D width."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from polytask.errors import RecipeError
from polytask.heads.modes.base import pair_modes
from polytask.heads.pairs.base import Merge, PairFeature, pair_features

WIDTH = 6


@pytest.fixture(params=pair_features.names())
def feature(request: pytest.FixtureRequest) -> PairFeature:
    torch.manual_seed(0)
    return pair_features.create(request.param, WIDTH)


def two(rows: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, WIDTH, generator=generator), torch.randn(rows, WIDTH, generator=generator)


@pytest.mark.parametrize("rows", [1, 4])
def test_a_pair_becomes_one_float32_vector_of_the_stated_width(feature: PairFeature, rows: int) -> None:
    out = feature(*two(rows))
    assert out.shape == (rows, feature.width)
    assert out.dtype is torch.float32


def test_pairs_do_not_see_each_other(feature: PairFeature) -> None:
    u_ND, v_ND = two()
    torch.testing.assert_close(feature(u_ND, v_ND)[2:3], feature(u_ND[2:3], v_ND[2:3]))


def test_the_gradient_reaches_at_least_one_text(feature: PairFeature) -> None:
    u_ND, v_ND = (part.requires_grad_() for part in two())
    torch.autograd.backward((feature(u_ND, v_ND) ** 2).sum())
    reached = [part.grad is not None and bool(part.grad.abs().sum(1).all()) for part in (u_ND, v_ND)]
    assert any(reached)


@pytest.mark.parametrize("name", pair_features.names())
def test_the_gradient_reaches_the_texts_that_it_reads_and_is_that_of_finite_differences(name: str) -> None:
    u_ND, v_ND = (part.double().requires_grad_() for part in two())
    feature = pair_features.create(name, WIDTH)
    assert torch.autograd.gradcheck(feature, (u_ND, v_ND))
    torch.autograd.backward((feature(u_ND, v_ND) ** 2).sum())
    reached = (u_ND.grad is not None, v_ND.grad is not None)
    assert reached == {"u": (True, False), "v": (False, True)}.get(name, (True, True))


SYMMETRIC = {
    *("abs_difference", "product", "cosine", "sum", "squared_sum", "squared_difference", "euclidean", "manhattan")
}


@pytest.mark.parametrize("name", pair_features.names())
def test_which_features_see_the_order_of_the_texts(name: str) -> None:
    feature, (u_ND, v_ND) = pair_features.create(name, WIDTH), two()
    assert torch.allclose(feature(u_ND, v_ND), feature(v_ND, u_ND)) == (name in SYMMETRIC)


@pytest.mark.parametrize("name", ["euclidean", "manhattan"])
def test_distances_are_torchs_own(name: str) -> None:
    u_ND, v_ND = two()
    wanted_NN = torch.cdist(u_ND, v_ND, p=2.0 if name == "euclidean" else 1.0)
    torch.testing.assert_close(pair_features.create(name, WIDTH)(u_ND, v_ND)[:, 0], wanted_NN.diagonal())


def test_equal_and_zero_vectors_give_finite_values_and_gradients(feature: PairFeature) -> None:
    for u_ND, v_ND in ((two()[0], two()[0]), (torch.zeros(2, WIDTH), torch.zeros(2, WIDTH))):
        u_ND.requires_grad_()
        out = feature(u_ND, v_ND.clone().requires_grad_())
        torch.autograd.backward(out.sum())
        assert out.isfinite().all()
        assert u_ND.grad is None or u_ND.grad.isfinite().all()


def test_its_state_comes_back(feature: PairFeature) -> None:
    again = pair_features.create(
        next(n for n in pair_features.names() if type(feature) is pair_features.member(n)), WIDTH
    )
    again.load_state_dict(feature.state_dict())
    assert torch.equal(again(*two()), feature(*two()))


def test_members_differ_pairwise() -> None:
    found = {name: pair_features.create(name, WIDTH)(*two()) for name in pair_features.names()}
    for a, b in combinations(found, 2):
        assert found[a].shape != found[b].shape or not torch.allclose(found[a], found[b]), f"{a} and {b} are the same"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("u", [3.0, -4.0]),
        ("v", [6.0, 8.0]),
        ("abs_difference", [3.0, 12.0]),
        ("product", [18.0, -32.0]),
        ("cosine", [-14.0 / 50.0]),
        ("sum", [9.0, 4.0]),
        ("difference", [-3.0, -12.0]),
        ("squared_sum", [81.0, 16.0]),
        ("squared_difference", [9.0, 144.0]),
        ("euclidean", [153.0**0.5]),
        ("manhattan", [15.0]),
    ],
)
def test_values_by_hand(name: str, wanted: list[float]) -> None:
    out = pair_features.create(name, 2)(torch.tensor([[3.0, -4.0]]), torch.tensor([[6.0, 8.0]]))
    assert out.tolist() == [[pytest.approx(value) for value in wanted]]


def test_a_merge_puts_features_side_by_side_in_the_order_asked_for() -> None:
    merge = pair_modes.create("bi", features=["v", "cosine", "u"]).merge(WIDTH)
    assert merge is not None
    u_ND, v_ND = two()
    out = merge(u_ND, v_ND)
    assert isinstance(merge, Merge)
    assert merge.width == out.shape[1] == 2 * WIDTH + 1
    assert torch.equal(out[:, :WIDTH], v_ND)
    assert torch.equal(out[:, WIDTH + 1 :], u_ND)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ([], "is empty"),
        ("u", "wanted a list"),
        (["vv"], "Did you mean 'v'"),
        ([3], "wanted a text or a table"),
        (["u", {"nam": "v"}], "a pair feature is a name"),
    ],
)
def test_a_merge_of_what_is_no_feature_is_refused(features: object, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        pair_modes.create("bi", features=features).merge(WIDTH)
