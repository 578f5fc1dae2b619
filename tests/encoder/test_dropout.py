"""Our own dropout mask: four entries from each draw, and each as fair as a draw of its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from polytask.packing import dropout

ENTRIES = 400_000


def kept(rate: float, entries: int = ENTRIES, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return dropout(torch.ones(entries), rate, True) != 0


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate(rate: float) -> None:
    off = (~kept(rate)).sum().item() - rate * ENTRIES
    assert abs(off) < 4.5 * math.sqrt(ENTRIES * rate * (1 - rate)) + ENTRIES / 65536


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(rate: float) -> None:
    torch.manual_seed(0)
    out = dropout(torch.full((ENTRIES,), 3.0), rate, True)
    assert sorted(set(out[out != 0].tolist())) == [pytest.approx(3.0 / (1 - rate), rel=2e-4)]
    assert out.mean().item() == pytest.approx(3.0, abs=5 * 3.0 * math.sqrt(rate / (1 - rate) / ENTRIES) + 1e-3)


def test_the_four_entries_of_a_draw_are_independent() -> None:
    rate = 0.3
    lanes_NK = kept(rate).view(-1, 4).double()
    draws = len(lanes_NK)
    deviation = math.sqrt(rate * (1 - rate))
    for lane in range(4):
        assert abs(lanes_NK[:, lane].mean().item() - (1 - rate)) < 4.5 * deviation / math.sqrt(draws)
    correlation_KK = torch.corrcoef(lanes_NK.T)
    assert (correlation_KK - torch.eye(4, dtype=torch.float64)).abs().max() < 4.5 / math.sqrt(draws)
    patterns_16 = (lanes_NK.long() * torch.tensor([1, 2, 4, 8])).sum(1).bincount(minlength=16).double()
    ones_16 = torch.tensor([bin(n).count("1") for n in range(16)])
    expected_16 = draws * (1 - rate) ** ones_16 * rate ** (4 - ones_16)
    chi_square = ((patterns_16 - expected_16) ** 2 / expected_16).sum().item()
    assert chi_square < 45  # 15 degrees of freedom: one in 10,000


def test_neighbouring_draws_are_independent() -> None:
    mask = kept(0.3).double() - 0.7
    for lag in (1, 2, 3, 4, 5, 8, 64, 768):
        assert abs((mask[lag:] * mask[:-lag]).mean().item()) < 4.5 * 0.21 / math.sqrt(ENTRIES)


def test_the_same_seed_draws_the_same_mask_and_another_seed_another() -> None:
    assert torch.equal(kept(0.5, 64, seed=3), kept(0.5, 64, seed=3))
    assert not torch.equal(kept(0.5, 64, seed=3), kept(0.5, 64, seed=4))


def test_two_calls_draw_two_masks() -> None:
    torch.manual_seed(0)
    ones = torch.ones(256)
    assert not torch.equal(dropout(ones, 0.5, True), dropout(ones, 0.5, True))


@pytest.mark.parametrize(("rate", "training"), [(0.0, True), (0.5, False), (0.0, False)])
def test_without_a_rate_or_outside_training_it_does_nothing_and_draws_nothing(rate: float, training: bool) -> None:
    torch.manual_seed(0)
    before, x = torch.random.get_rng_state(), torch.randn(8, generator=torch.Generator().manual_seed(1))
    assert dropout(x, rate, training) is x
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 5), (0, 4), ()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_shape_and_type_comes_out_as_it_went_in(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    out = dropout(torch.ones(shape, dtype=dtype), 0.4, True)
    assert out.shape == shape
    assert out.dtype is dtype


def test_a_tensor_that_is_not_contiguous_is_dropped_entry_by_entry() -> None:
    x = torch.arange(1.0, 25.0).view(4, 6).T
    torch.manual_seed(0)
    out = dropout(x, 0.5, True)
    assert torch.equal(out[out != 0], (2 * x)[out != 0])
    assert 0 < (out == 0).sum() < 24


def test_gradients_pass_where_values_do() -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, requires_grad=True)
    out = dropout(x, 0.5, True)
    torch.autograd.backward(out.sum())
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())
