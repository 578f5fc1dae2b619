from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .base import PairFeature, pair_features


@pair_features.register("cosine")
class Cosine(PairFeature):
    """cos(u, v), one number for each pair."""

    def __init__(self, width: int) -> None:
        super().__init__(1)

    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        return F.cosine_similarity(u_ND, v_ND, dim=1).unsqueeze(1)
