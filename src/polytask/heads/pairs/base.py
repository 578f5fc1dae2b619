"""The pair-feature contract, and the list of features that a task asks for. Shapes: N pairs, D width."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polytask.registry import Registry


class PairFeature(nn.Module, ABC):
    """A function of two vectors u and v, ``(N, D)`` each, that gives ``(N, width)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @abstractmethod
    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        """Return the feature, ``(N, width)``."""


pair_features: Registry[PairFeature] = Registry("pair features", "polytask.heads.pairs", trial=(1,))


class Merge(nn.Module):
    """Several pair features side by side, ``(N, width)``."""

    def __init__(self, features: Sequence[PairFeature]) -> None:
        super().__init__()
        self.features = nn.ModuleList(features)
        self.width = sum(feature.width for feature in features)

    def forward(self, u_ND: Tensor, v_ND: Tensor) -> Tensor:
        return torch.cat([feature(u_ND, v_ND) for feature in self.features], dim=1)
