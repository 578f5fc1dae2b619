"""Projections and thresholds by hand. Shapes: N rows, D width, K thresholds."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from polytask.heads.projection import Projection
from polytask.heads.thresholds import Thresholds


def some(rows: int = 5, width: int = 6) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_projection_by_hand(layers: int, activation: Literal["relu", "gelu"]) -> None:
    torch.manual_seed(0)
    projection = Projection(6, 4, layers=layers, hidden=5, activation=activation).eval()
    with torch.no_grad():
        for parameter in projection.parameters():
            parameter.normal_()
    state, x = projection.state_dict(), some()
    for number in range(layers):
        if number:
            x = x.clamp(min=0) if activation == "relu" else x * torch.special.ndtr(x)
        x = x @ state[f"layers.{number}.weight"].T + state[f"layers.{number}.bias"]
    torch.testing.assert_close(projection(some()), x)
    assert x.shape == (5, projection.width)
    assert len(state) == 2 * layers


def test_its_widths_are_those_of_its_input_unless_told() -> None:
    shapes = [tuple(weight.shape) for weight in Projection(6, 4).parameters() if weight.dim() == 2]
    assert shapes == [(6, 6), (6, 6), (4, 6)]
    shapes = [tuple(weight.shape) for weight in Projection(6, 4, layers=2, hidden=9).parameters() if weight.dim() == 2]
    assert shapes == [(9, 6), (4, 9)]


@pytest.mark.parametrize("layers", [1, 3, 6])
@pytest.mark.parametrize("width", [32, 384])
def test_a_new_projection_keeps_the_length_of_vectors(layers: int, width: int) -> None:
    torch.manual_seed(0)
    projected_ND = Projection(width, width, layers=layers).eval()(some(64, width))
    assert projected_ND.norm(dim=1).mean().item() == pytest.approx(width**0.5, rel=0.5)


def test_dropout_of_a_projection_follows_the_seed_and_stops_in_evaluation() -> None:
    projection = Projection(6, 6, dropout=0.5)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        out: Tensor = projection(some())
        return out

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    projection.eval()
    assert torch.equal(run(1), run(2))


def test_the_gradient_reaches_inputs_and_every_layer() -> None:
    torch.manual_seed(0)
    projection, vectors_ND = Projection(6, 4).eval(), some(1).requires_grad_()
    torch.autograd.backward((projection(vectors_ND) ** 2).sum())
    assert vectors_ND.grad is not None
    assert vectors_ND.grad.any()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in projection.parameters())


@pytest.mark.parametrize("rows", [1, 5])
def test_thresholds_add_a_bias_each_to_one_score(rows: int) -> None:
    thresholds = Thresholds(4)
    score_N1 = some(rows, 1)
    logits_NK = thresholds(score_N1)
    assert logits_NK.shape == (rows, 4)
    for k, bias in enumerate(thresholds.bias.tolist()):
        torch.testing.assert_close(logits_NK[:, k], score_N1[:, 0] + bias)


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_thresholds_begin_where_all_classes_are_alike(count: int) -> None:
    above_K = Thresholds(count)(torch.zeros(1, 1)).sigmoid()[0]
    classes = -torch.diff(F.pad(F.pad(above_K, (1, 0), value=1.0), (0, 1)))
    torch.testing.assert_close(classes, torch.full((count + 1,), 1 / (count + 1)))


def test_coral_learns_ordered_thresholds_and_its_maximum_likelihood_score() -> None:
    # One feature x, labels the number of the cut points 0.2, 0.5, 0.9 that it lies above: the optimum's biases are in
    # order (Theorem 1 of the paper), and every class is told apart.
    x_N1 = torch.linspace(0, 1.2, 240)[:, None]
    y_N = (x_N1 > torch.tensor([0.2, 0.5, 0.9])).sum(1)
    torch.manual_seed(0)
    thresholds, slope = Thresholds(3), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([slope, *thresholds.parameters()], lr=0.3)
    for _ in range(300):
        logits_NK = thresholds(slope * x_N1)
        loss = F.binary_cross_entropy_with_logits(logits_NK, (y_N[:, None] > torch.arange(3)).float())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    cuts = (-thresholds.bias / slope).tolist()
    assert cuts == pytest.approx([0.2, 0.5, 0.9], abs=0.03)
