from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .base import Head, checked_rate, heads, new_linear


@heads.register("linear")
class Linear(Head):
    """Dropout and one linear layer (Devlin et al. 2018, §4.1)."""

    def __init__(self, width: int, outputs: int, *, dropout: float = 0.1) -> None:
        super().__init__(width, outputs)
        self.dropout = checked_rate(dropout)
        self.output = new_linear(width, outputs)

    def forward(self, vectors_ND: Tensor) -> Tensor:
        logits_NC: Tensor = self.output(F.dropout(vectors_ND, self.dropout, self.training))
        return logits_NC
