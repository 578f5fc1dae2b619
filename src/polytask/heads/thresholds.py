"""One score at several thresholds: the last layer of CORAL. Shapes: N rows, K thresholds."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Thresholds(nn.Module):
    """Turns one score of each row, g(x), into K logits g(x) + b_k (Cao, Mirjalili & Raschka 2020, §3.2).

    The biases begin where a score of 0 gives each of the K + 1 classes the same probability; they are never decayed.
    """

    def __init__(self, thresholds: int) -> None:
        super().__init__()
        above_K = 1.0 - torch.arange(1, thresholds + 1) / (thresholds + 1)
        self.bias = nn.Parameter(above_K.logit())

    def forward(self, score_N1: Tensor) -> Tensor:
        return score_N1 + self.bias
