"""Multi-head self-attention over packed tokens (Vaswani et al. 2017, eq. 1; Devlin et al. 2018).

Shapes: P tokens of a packed batch, D width, H heads, d width of a head, N texts of L tokens in a run.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polytask.packing import PackedBatch

from .base import LayerNorm, Linear, dropout


class SelfAttention(nn.Module):
    """softmax(QKᵀ / √d) V for each text on its own, then projection, residual and LayerNorm."""

    def __init__(self, width: int, heads: int, *, dropout: float, attention_dropout: float, epsilon: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be divided among {heads} heads")
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.output = Linear(width, width)
        self.norm = LayerNorm(width, eps=epsilon)
        self.dropout = dropout
        self.attention_dropout = attention_dropout

    def forward(self, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
        mixed_PD = self._attend(self.qkv(hidden_PD), batch)
        normed_PD: Tensor = self.norm(hidden_PD + dropout(self.output(mixed_PD), self.dropout, self.training))
        return normed_PD

    def _attend(self, qkv_PE: Tensor, batch: PackedBatch) -> Tensor:
        rate = self.attention_dropout if self.training else 0.0
        if qkv_PE.is_cuda and qkv_PE.dtype is not torch.float32 and rate == 0.0 and len(batch.runs) > 1:
            return _variable_length(qkv_PE, self.heads, batch)
        # Split, not sliced: the gradient of a slice is as large as the whole, that of a split is put together once.
        by_run = torch.split(qkv_PE, [run.stop - run.start for run in batch.runs])
        parts = [_attend_run(q, self.heads, run.length, rate) for q, run in zip(by_run, batch.runs, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _attend_run(qkv_PE: Tensor, heads: int, length: int, rate: float) -> Tensor:
    # Over texts of equal length the packed stream already is the (texts, length) block that attention wants.
    q, k, v = qkv_PE.view(-1, length, 3, heads, qkv_PE.shape[1] // (3 * heads)).permute(2, 0, 3, 1, 4).unbind(0)
    if rate:
        mixed = _with_dropout(q, k, v, rate)
    else:
        mixed = F.scaled_dot_product_attention(q, k, v)
    return mixed.transpose(1, 2).reshape(qkv_PE.shape[0], -1)


def _with_dropout(q: Tensor, k: Tensor, v: Tensor, rate: float) -> Tensor:
    # Written out: torch's fused CPU kernel knows no dropout, and its fallback scales both factors, a pass more.
    scores = torch.matmul(q * (1.0 / math.sqrt(q.shape[-1])), k.transpose(-1, -2))
    return torch.matmul(dropout(scores.softmax(-1), rate, True), v)


def _variable_length(qkv_PE: Tensor, heads: int, batch: PackedBatch) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = qkv_PE.view(qkv_PE.shape[0], 3, heads, -1).unbind(1)
    bounds = batch.bounds()
    mixed = varlen_attn(q, k, v, bounds, bounds, batch.longest, batch.longest)
    assert isinstance(mixed, Tensor)
    return mixed.reshape(qkv_PE.shape[0], -1)
