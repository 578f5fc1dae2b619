"""Attention within a text, with and without dropout. Shapes: P tokens, D width."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from polytask.encoder.attention import SelfAttention
from polytask.packing import PackedBatch

WIDTH, HEADS = 16, 4
LENGTHS = [5, 5, 1, 3]


@pytest.fixture
def attention() -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(WIDTH, HEADS, dropout=0.0, attention_dropout=0.0, epsilon=1e-5).double().eval()


def some() -> tuple[Tensor, PackedBatch]:
    hidden_PD = torch.randn(sum(LENGTHS), WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return hidden_PD, PackedBatch.pack([[0] * length for length in LENGTHS])


def torchs_own(attention: SelfAttention, hidden_PD: Tensor) -> Tensor:
    """Return what torch's attention on padded texts gives, with the same weights."""
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(attention.qkv.weight)
        theirs.in_proj_bias.copy_(attention.qkv.bias)
        theirs.out_proj.weight.copy_(attention.output.weight)
        theirs.out_proj.bias.copy_(attention.output.bias)
    padding_NL = torch.arange(max(LENGTHS)) >= torch.tensor(LENGTHS)[:, None]
    padded_NLD = torch.zeros(len(LENGTHS), max(LENGTHS), WIDTH, dtype=torch.float64)
    padded_NLD[~padding_NL] = hidden_PD
    mixed_NLD, _ = theirs(padded_NLD, padded_NLD, padded_NLD, key_padding_mask=padding_NL)
    normed_PD: Tensor = attention.norm(hidden_PD + mixed_NLD[~padding_NL])
    return normed_PD


def test_it_is_torchs_attention_without_the_padding(attention: SelfAttention) -> None:
    hidden_PD, batch = some()
    torch.testing.assert_close(attention(hidden_PD, batch), torchs_own(attention, hidden_PD))


def test_the_pass_with_dropout_is_the_other_one_as_the_rate_goes_to_zero(attention: SelfAttention) -> None:
    hidden_PD, batch = some()
    wanted_PD = attention(hidden_PD, batch)
    attention.train()
    attention.attention_dropout = 1e-12
    torch.testing.assert_close(attention(hidden_PD, batch), wanted_PD)


def test_dropout_on_attention_keeps_the_mean(attention: SelfAttention) -> None:
    hidden_PD, batch = some()
    attention.norm = nn.Identity()  # type: ignore[assignment]
    wanted_PD = attention(hidden_PD, batch).detach()
    attention.train()
    attention.attention_dropout = 0.25
    torch.manual_seed(0)
    draws = torch.stack([attention(hidden_PD, batch).detach() for _ in range(3000)])
    off = (draws.mean(0) - wanted_PD) / (draws.std(0) / 3000**0.5)
    assert off.abs().max() < 5
    assert draws.std(0).min() > 1e-3


def test_dropout_on_attention_stops_in_evaluation(attention: SelfAttention) -> None:
    hidden_PD, batch = some()
    attention.attention_dropout = attention.dropout = 0.5
    torch.testing.assert_close(attention(hidden_PD, batch), torchs_own(attention, hidden_PD))


def test_gradients_agree_with_differences(attention: SelfAttention) -> None:
    hidden_PD, batch = some()

    def run(x: Tensor) -> Tensor:
        out: Tensor = attention(x, batch)
        return out

    assert torch.autograd.gradcheck(run, (hidden_PD.requires_grad_(),))


def test_a_width_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="a width of 16 cannot be divided among 3 heads"):
        SelfAttention(16, 3, dropout=0.0, attention_dropout=0.0, epsilon=1e-5)
