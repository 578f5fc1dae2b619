"""What every pooling promises. Shapes: N texts, P tokens, D width."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from polytask.heads.pooling.base import Pooling, poolings
from polytask.packing import EncoderOutput, PackedTokens, PaddedTokens, runs_of

WIDTH = 6
LENGTHS = (3, 1, 1, 5)


@pytest.fixture(params=poolings.names())
def pooling(request: pytest.FixtureRequest) -> Pooling:
    torch.manual_seed(0)
    return poolings.create(request.param, WIDTH)


def hidden(dtype: torch.dtype = torch.float32, lengths: tuple[int, ...] = LENGTHS) -> Tensor:
    return torch.randn(sum(lengths), WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)


def output_of(hidden_PD: Tensor, lengths: tuple[int, ...] = LENGTHS) -> EncoderOutput:
    """Return an output whose summary is twice the first token."""
    runs = runs_of(lengths)
    return EncoderOutput(
        (torch.full_like(hidden_PD, 7.0), hidden_PD),
        wrap=lambda layer_PD: PackedTokens(layer_PD, runs),
        summary=lambda: 2 * PackedTokens(hidden_PD, runs).first(),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_text_becomes_one_float32_vector(pooling: Pooling, dtype: torch.dtype) -> None:
    vectors_ND = pooling(output_of(hidden(dtype)))
    assert vectors_ND.shape == (len(LENGTHS), pooling.width)
    assert vectors_ND.dtype is torch.float32
    assert vectors_ND.isfinite().all()


def test_a_batch_of_one_text_is_that_texts_row_of_a_larger_one(pooling: Pooling) -> None:
    alone_ND = pooling(output_of(hidden()[-5:], (5,)))
    assert alone_ND.shape == (1, pooling.width)
    torch.testing.assert_close(pooling(output_of(hidden()))[3], alone_ND[0])


def test_the_gradient_reaches_every_text(pooling: Pooling) -> None:
    hidden_PD = hidden().requires_grad_()
    torch.autograd.backward((pooling(output_of(hidden_PD)) ** 2).sum())
    assert hidden_PD.grad is not None
    ends = torch.tensor(LENGTHS).cumsum(0).tolist()
    for end, length in zip(ends, LENGTHS, strict=True):
        assert hidden_PD.grad[end - length : end].any()


def test_padding_does_not_matter(pooling: Pooling) -> None:
    hidden_PD = hidden()
    mask_NL = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    padded_NLD = torch.full((4, 5, WIDTH), 50.0)
    padded_NLD[mask_NL] = hidden_PD
    padded = EncoderOutput(
        (padded_NLD, padded_NLD),
        wrap=lambda layer_NLD: PaddedTokens(layer_NLD, mask_NL),
        summary=lambda: 2 * padded_NLD[:, 0],
    )
    torch.testing.assert_close(pooling(padded), pooling(output_of(hidden_PD)))


def test_it_says_whether_it_reads_the_summary(pooling: Pooling) -> None:
    asked = []
    plain = output_of(hidden())
    pooling(EncoderOutput(plain.layers, plain.wrap, lambda: (asked.append(1), plain.summary())[1]))  # type: ignore[func-returns-value]
    assert bool(asked) == pooling.uses_summary


def test_its_state_comes_back(pooling: Pooling) -> None:
    again = poolings.create(next(n for n in poolings.names() if isinstance(pooling, poolings.member(n))), WIDTH)
    again.load_state_dict(pooling.state_dict())
    assert torch.equal(again(output_of(hidden())), pooling(output_of(hidden())))


def test_members_differ_pairwise() -> None:
    torch.manual_seed(0)
    found = {name: poolings.create(name, WIDTH)(output_of(hidden())) for name in poolings.names()}
    for a, b in combinations(found, 2):
        assert found[a].shape != found[b].shape or not torch.allclose(found[a], found[b]), f"{a} and {b} are the same"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cls", [[2.0, -2.0], [14.0, 4.0]]),
        ("mean", [[2.0, -3.0], [7.0, 2.0]]),
        ("max", [[3.0, -1.0], [7.0, 2.0]]),
    ],
)
def test_values_by_hand(name: str, wanted: list[list[float]]) -> None:
    hidden_PD = torch.tensor([[1.0, -1.0], [3.0, -5.0], [7.0, 2.0]])
    assert poolings.create(name, 2)(output_of(hidden_PD, (2, 1))).tolist() == wanted


def test_a_long_mean_is_summed_in_float32() -> None:
    hidden_PD = torch.full((4000, 1), 1.0078125, dtype=torch.bfloat16)
    assert poolings.create("mean", 1)(output_of(hidden_PD, (4000,))).item() == pytest.approx(1.0078125, rel=1e-5)
