from __future__ import annotations

import torch
from torch import Tensor

from .base import GramianAggregator, aggregators
from .fairness import fair


@aggregators.register("nash_mtl")
class NashMTL(GramianAggregator):
    """The Nash bargain over the direction, the weights with Gα = 1/α (Nash-MTL; Navon et al. 2022, claim 3.1).

    They minimise ½αᵀGα − Σ log αᵢ, which is convex: no sequence of convex programs is needed. However long the
    gradients, the combined one is √T long. Tasks without a gradient get no weight.
    """

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        return fair(gramian_TT, 1.0)
