from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .base import Head, checked_rate, heads, new_hidden, new_linear


@heads.register("mlp")
class Mlp(Head):
    """``layers`` hidden layers with ReLU or GELU, each after dropout, then a linear one (Irgau & Lalgudi; Xu).

    Both are CS224N reports: three layers after the pooling in the first (§4), their number a setting that was searched
    for in the second. Hidden layers are drawn as He et al. (2015) do, so that deep ones learn from the first step; the
    last one is drawn as BERT's, so that a new head is in doubt about every row.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        *,
        layers: int = 1,
        hidden: int | None = None,
        activation: Literal["relu", "gelu"] = "relu",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(width, outputs)
        if layers < 1:
            raise ValueError(f"layers is {layers}; an mlp has at least one hidden layer ('linear' has none)")
        if layers > 100:
            raise ValueError(f"layers is {layers}; an mlp has at most 100")
        hidden = width if hidden is None else hidden
        if hidden < 1:
            raise ValueError(f"hidden is {hidden}; an mlp has at least one hidden unit")
        self.dropout = checked_rate(dropout)
        self.activation = F.relu if activation == "relu" else F.gelu
        self.layers = nn.ModuleList(new_hidden(width if n == 0 else hidden, hidden) for n in range(layers))
        self.output = new_linear(hidden, outputs)

    def forward(self, vectors_ND: Tensor) -> Tensor:
        for layer in self.layers:
            vectors_ND = self.activation(layer(F.dropout(vectors_ND, self.dropout, self.training)))
        logits_NC: Tensor = self.output(F.dropout(vectors_ND, self.dropout, self.training))
        return logits_NC
