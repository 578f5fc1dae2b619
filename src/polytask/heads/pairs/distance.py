from __future__ import annotations

import torch
from torch import Tensor

from .base import PairFeature, pair_features


class _Distance(PairFeature):
    """‖u − v‖ₚ, one number for each pair. Where u = v, torch gives the subgradient 0, not nan."""

    order: float

    def __init__(self, width: int) -> None:
        super().__init__(1)

    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        distance_N1: Tensor = torch.linalg.vector_norm(u_ND - v_ND, ord=self.order, dim=1, keepdim=True)
        return distance_N1


@pair_features.register("euclidean")
class Euclidean(_Distance):
    """‖u − v‖₂, one number for each pair (Ma, Albright & Li, CS224N, §3.2)."""

    order = 2


@pair_features.register("manhattan")
class Manhattan(_Distance):
    """‖u − v‖₁, one number for each pair (Ma, Albright & Li, CS224N, §3.2)."""

    order = 1
