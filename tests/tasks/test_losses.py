"""Class weights, smoothing and focus against torch and formulas of their own. Shapes: N rows, C classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from polytask.errors import RecipeError
from polytask.tasks.kinds.base import Kind, kinds

FIVE = {label: label for label in "01234"}
TWO = {"no": "no", "yes": "yes"}
WEIGHTS = [0.5, 1.0, 2.0, 0.7, 3.0]


def drawn(rows: int, outputs: int, seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, outputs, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, max(outputs, 2), (rows,), generator=generator)


def five(**options: Any) -> Kind:
    return kinds.create("classification", FIVE, **options)


def gradient(kind: Kind, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    leaf_NC = logits_NC.clone().requires_grad_()
    torch.autograd.backward(kind.loss(leaf_NC, labels_N).sum())
    assert leaf_NC.grad is not None
    return leaf_NC.grad


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_weights_and_smoothing_are_torchs(weights: list[float] | None, smoothing: float) -> None:
    logits_NC, labels_N = drawn(40, 5)
    weight_C = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    wanted_N = F.cross_entropy(logits_NC, labels_N, weight_C, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(five(class_weights=weights, smoothing=smoothing).loss(logits_NC, labels_N), wanted_N)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_that_of_the_paper(gamma: float) -> None:
    logits_NC, labels_N = drawn(40, 5)
    p_N = logits_NC.exp()[torch.arange(40), labels_N] / logits_NC.exp().sum(1)
    alpha_N = torch.tensor(WEIGHTS, dtype=torch.float64)[labels_N]
    torch.testing.assert_close(five(focal=gamma).loss(logits_NC, labels_N), -((1 - p_N) ** gamma) * p_N.log())
    weighted = five(focal=gamma, class_weights=WEIGHTS).loss(logits_NC, labels_N)
    torch.testing.assert_close(weighted, -alpha_N * (1 - p_N) ** gamma * p_N.log())


@pytest.mark.parametrize(
    "options",
    [{"focal": 2.0}, {"smoothing": 0.2}, {"class_weights": [1.0, 4.0]}, {"class_weights": {"no": 2, "yes": 3}}],
)
def test_binary_is_a_classification_in_two_classes(options: dict[str, Any]) -> None:
    logits_N1, labels_N = drawn(30, 1)
    both_N2 = torch.cat([torch.zeros_like(logits_N1), logits_N1], 1)
    wanted_N = kinds.create("classification", TWO, **options).loss(both_N2, labels_N)
    torch.testing.assert_close(kinds.create("binary", TWO, **options).loss(logits_N1, labels_N), wanted_N)


def test_smoothed_binary_is_cross_entropy_with_a_softer_target() -> None:
    logits_N1, labels_N = drawn(30, 1)
    target_N = labels_N.double() * 0.8 + 0.1
    wanted_N = F.binary_cross_entropy_with_logits(logits_N1[:, 0], target_N, reduction="none")
    torch.testing.assert_close(kinds.create("binary", TWO, smoothing=0.2).loss(logits_N1, labels_N), wanted_N)


def test_ordinal_rows_are_weighed_by_their_class() -> None:
    logits_NC, _ = drawn(30, 4)
    labels_N = torch.arange(30) % 5
    plain_N = kinds.create("ordinal", FIVE).loss(logits_NC, labels_N)
    weighed_N = kinds.create("ordinal", FIVE, class_weights=WEIGHTS).loss(logits_NC, labels_N)
    torch.testing.assert_close(weighed_N, plain_N * torch.tensor(WEIGHTS, dtype=torch.float64)[labels_N])


@pytest.mark.parametrize("name", ["classification", "binary"])
@pytest.mark.parametrize("options", [{"focal": 0.3}, {"focal": 2.0}, {"smoothing": 0.1}])
@pytest.mark.parametrize("size", [1.0, 30.0, 1e4])
def test_gradients_stay_finite_where_a_model_is_certain(name: str, options: dict[str, Any], size: float) -> None:
    kind = kinds.create(name, FIVE if name == "classification" else TWO, **options)
    for sign in (-1.0, 1.0):
        logits_NC = torch.zeros(4, kind.outputs)
        logits_NC[:, 0] = sign * size
        labels_N = torch.arange(4) % 2
        assert kind.loss(logits_NC, labels_N).isfinite().all()
        assert gradient(kind, logits_NC, labels_N).isfinite().all()


@pytest.mark.parametrize("name", ["classification", "binary"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    kind = kinds.create(name, FIVE if name == "classification" else TWO, focal=1.5)
    logits_NC, labels_N = drawn(6, kind.outputs, scale=1.0)
    assert torch.autograd.gradcheck(lambda logits: kind.loss(logits, labels_N), logits_NC.requires_grad_())


@given(st.integers(0, 999), st.floats(0.1, 5.0))
def test_focus_lowers_the_loss_of_every_row_and_most_that_of_easy_ones(seed: int, gamma: float) -> None:
    logits_NC, labels_N = drawn(20, 5, seed)
    plain_N, focal_N = five().loss(logits_NC, labels_N), five(focal=gamma).loss(logits_NC, labels_N)
    order = plain_N.argsort()
    share_N = (focal_N / plain_N)[order]
    assert (share_N <= 1 + 1e-12).all()
    assert (share_N.diff() >= -1e-12).all()


def test_nothing_asked_for_is_the_ordinary_loss_to_the_bit() -> None:
    logits_NC, labels_N = (tensor.float() if tensor.is_floating_point() else tensor for tensor in drawn(20, 5))
    assert torch.equal(five().loss(logits_NC, labels_N), F.cross_entropy(logits_NC, labels_N, reduction="none"))
    assert torch.equal(five(class_weights=[1.0] * 5).loss(logits_NC, labels_N), five().loss(logits_NC, labels_N))


def test_weights_follow_the_logits_type_and_lose_nothing_on_the_way() -> None:
    kind = five(class_weights=[0.1] * 5)
    logits_NC, labels_N = drawn(8, 5)
    assert kind.loss(logits_NC.bfloat16(), labels_N).dtype is torch.bfloat16
    torch.testing.assert_close(kind.loss(logits_NC, labels_N), 0.1 * five().loss(logits_NC, labels_N))


@given(st.lists(st.integers(0, 4), min_size=5, max_size=60).map(lambda codes: [*codes, 0, 1, 2, 3, 4]))
def test_balanced_weights_are_scikit_learns_and_one_in_the_mean(codes: list[int]) -> None:
    options = five(class_weights="balanced").settle(codes)
    wanted = compute_class_weight("balanced", classes=np.arange(5), y=np.array(codes))
    assert options["class_weights"] == pytest.approx(wanted.tolist())
    assert np.mean([options["class_weights"][code] for code in codes]) == pytest.approx(1.0)
    assert five(**options).settle(codes) == {}


@pytest.mark.parametrize("name", ["classification", "binary", "ordinal"])
def test_balanced_weights_need_train_first(name: str) -> None:
    kind = kinds.create(name, TWO, class_weights="balanced")
    with pytest.raises(ValueError, match="must be settled"):
        kind.loss(torch.zeros(2, kind.outputs), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="has no row of 'yes'"):
        kind.settle([0, 0])
    assert kind.settle([0, 0, 0, 1]) == {"class_weights": [2 / 3, 2.0]}
    assert kind.settle([0, 0, 0, 1], [1 / 3] * 3 + [1.0]) == {"class_weights": pytest.approx([1.0, 1.0])}


@pytest.mark.parametrize("name", [name for name in kinds.names() if kinds.member(name).has_labels])
def test_classes_without_such_options_settle_nothing(name: str) -> None:
    assert kinds.create(name, TWO).settle([]) == {}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"smoothing": 1.0}, "smoothing is 1.0"),
        ({"focal": -1.0}, "focal is -1.0"),
        ({"focal": 2.0, "smoothing": 0.1}, "choose one"),
        ({"class_weights": [1.0, 2.0]}, "has 2 numbers, and there are 5 labels"),
        ({"class_weights": [1.0, 0.0, 1.0, 1.0, 1.0]}, "a weight is greater than 0"),
        (
            {"class_weights": {"0": 1.0, "5": 2.0}},
            "names '5', which is no label.* There are '0', '1', '2', '3' and '4'",
        ),
        ({"class_weights": {"0": 1.0}}, "no weight for the label '1'"),
        ({"class_weights": "balancd"}, "class_weights"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        five(**options)


NAMED = {"0": "bad", "1": "good", "2": "0"}


def test_class_weights_go_by_spelling_or_name_and_the_spelling_wins() -> None:
    logits_NC, labels_N = drawn(6, 3)
    wanted_N = kinds.create("classification", NAMED, class_weights=[1.0, 2.0, 3.0]).loss(logits_NC, labels_N)
    for weights in ({"0": 1.0, "good": 2.0, "2": 3.0}, {"2": 3.0, "1": 2.0, "bad": 1.0}):
        made = kinds.create("classification", NAMED, class_weights=weights)
        torch.testing.assert_close(made.loss(logits_NC, labels_N), wanted_N)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (
            {"godo": 1.0},
            r"names 'godo', which is no label\. Did you mean 'good'\? There are '0 \(bad\)', '1 \(good\)' and",
        ),
        ({"0": 1.0, "bad": 2.0, "1": 1.0, "2": 1.0}, "has two weights for the label '0', one of them by its name"),
    ],
)
def test_a_weight_for_no_label_or_for_one_twice_is_refused(weights: dict[str, float], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        kinds.create("classification", NAMED, class_weights=weights)
