"""Poolings that weigh tokens by attention. Shapes: N texts, D width; scores have one number a token."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from polytask.packing import EncoderOutput

from .base import LayerPooling, Layers, poolings

Scale = Literal["none", "root"]
"""Scores as they are, as the reports have them, or divided by √D (Vaswani et al. 2017, §3.2.1)."""


class _Anchored(LayerPooling):
    """Attention whose query is the first token's vector."""

    def __init__(self, width: int, *, layers: Layers = "last", scale: Scale = "none") -> None:
        super().__init__(width, layers=layers)
        self.factor = 1.0 if scale == "none" else width**-0.5


@poolings.register("attention")
class Attention(_Anchored):
    """h_cls + Σ α_t h_t, α = softmax of ⟨h_cls, h_t⟩ (Ma, Albright & Li, CS224N, eq. 1–3).

    t runs over the tokens after [CLS] ("the rest"), as the words around the equations say; with ``over = "all"`` it
    takes [CLS] in, whose product with itself is then mostly the largest, so that nearly nothing is left for the rest.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: Layers = "last",
        scale: Scale = "none",
        over: Literal["rest", "all"] = "rest",
    ) -> None:
        super().__init__(width, layers=layers, scale=scale)
        self.over = over

    def forward(self, output: EncoderOutput) -> Tensor:
        tokens = self.tokens(output)
        first_ND = tokens.first()
        scores = tokens.dot(first_ND * self.factor)
        if self.over == "all":
            return first_ND + tokens.sum(tokens.softmax(scores))
        rest = tokens.rest()
        # Not -inf: a text of one token has no rest, and the softmax of nothing would be nan.
        weights = tokens.softmax(scores.masked_fill(rest == 0, torch.finfo(scores.dtype).min)) * rest
        return first_ND + tokens.sum(weights)


@poolings.register("dot_attention")
class DotAttention(_Anchored):
    """Σ softmax(e)_t h_t with e_t = ⟨h_cls, h_t⟩: dot-product attention of [CLS] (Irgau & Lalgudi, CS224N, Table 1).

    The report names dot-product attention without a formula; its multiplicative attention differs by what it learns.
    """

    def forward(self, output: EncoderOutput) -> Tensor:
        tokens = self.tokens(output)
        return tokens.sum(tokens.softmax(tokens.dot(tokens.first() * self.factor)))


@poolings.register("multiplicative_attention")
class MultiplicativeAttention(LayerPooling):
    """Σ softmax(e)_t h_t with e_t = sᵀh_t and s learned (Irgau & Lalgudi, CS224N, §4).

    A matrix between s and h_t, as the report's two widths hint at, would add nothing: sᵀW is a vector, too.
    """

    def __init__(self, width: int, *, layers: Layers = "last") -> None:
        super().__init__(width, layers=layers)
        self.query = nn.Parameter(torch.empty(width).normal_(std=0.02))

    def forward(self, output: EncoderOutput) -> Tensor:
        tokens = self.tokens(output)
        return tokens.sum(tokens.softmax(tokens.dot(self.query)))
