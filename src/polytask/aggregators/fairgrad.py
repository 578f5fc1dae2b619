from __future__ import annotations

import torch
from torch import Tensor

from .base import GramianAggregator, aggregators
from .fairness import fair


@aggregators.register("fairgrad")
class FairGrad(GramianAggregator):
    """The α-fair weights, those with Gw = w^(−1/α) (FairGrad; Ban & Ji 2024, eq. 4).

    ``alpha``: 1 is proportional fairness, which is Nash-MTL's; 2 the least potential delay; ∞ would be max-min fairness.
    Tasks without a gradient get no weight: there is nothing to be fair about.

    TorchJD searches the root by nonlinear least squares, which was left: where one gradient is thousands of times as long
    as another it stops far from it, and where gradients cancel out it took up to half a second in every step. As a convex
    problem it is a handful of Newton steps.
    """

    def __init__(self, *, alpha: float = 2.0) -> None:
        if alpha <= 0:
            raise ValueError(f"alpha is {alpha}; it is a number above 0")
        self.alpha = alpha

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        return fair(gramian_TT, self.alpha)
