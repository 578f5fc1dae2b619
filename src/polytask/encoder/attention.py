"""Multi-head self-attention (Vaswani et al. 2017, eq. 1; Devlin et al. 2018) over the texts of a batch.

Shapes: P tokens of a batch, D width, E = 3 × D (query, key and value side by side).
"""

from __future__ import annotations

from torch import Tensor, nn

from polytask.packing import Batch, dropout

from .base import LayerNorm, Linear


class SelfAttention(nn.Module):
    """softmax(QKᵀ / √d) V for each text on its own, then projection, residual and LayerNorm."""

    def __init__(self, width: int, heads: int, *, dropout: float, attention_dropout: float, epsilon: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be divided among {heads} heads")
        self.heads = heads
        # One matrix, not three: one product over all tokens is faster, and its rows are what checkpoints call Q, K, V.
        self.qkv = Linear(width, 3 * width)
        self.output = Linear(width, width)
        self.norm = LayerNorm(width, eps=epsilon)
        self.dropout = dropout
        self.attention_dropout = attention_dropout

    def forward(self, hidden_PD: Tensor, batch: Batch) -> Tensor:
        qkv_PE = self.qkv(hidden_PD)
        mixed_PD = batch.attend(qkv_PE, self.heads, self.attention_dropout if self.training else 0.0)
        normed_PD: Tensor = self.norm(hidden_PD + dropout(self.output(mixed_PD), self.dropout, self.training))
        return normed_PD
