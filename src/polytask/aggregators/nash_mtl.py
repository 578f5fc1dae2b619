from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Aggregator, aggregators
from .roots import cosines

_RIDGE = 1e-6  # where gradients cancel out, the bargain has no bounds
_ITERATIONS = 200


@aggregators.register("nash_mtl")
class NashMTL(Aggregator):
    """The Nash bargain over the direction, the weights with Gα = 1/α (Nash-MTL; Navon et al. 2022, claim 3.1).

    They minimise ½αᵀGα − Σ log αᵢ, which is convex and self-concordant, so damped Newton steps reach the minimum from
    anywhere: no sequence of convex programs is needed. However long the gradients, the combined one is √T long.
    Tasks without a gradient get no weight.
    """

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        weights_T = torch.zeros_like(gramian_TT[0])
        moved_T = gramian_TT.diagonal() > 0
        norms_T = gramian_TT.diagonal()[moved_T].sqrt()
        # On unit vectors: with G = DCD, Gα = 1/α is C(Dα) = 1/(Dα).
        weights_T[moved_T] = _bargain(cosines(gramian_TT[moved_T][:, moved_T])) / norms_T
        return weights_T


def _bargain(cosines_TT: Tensor) -> Tensor:
    hessian_TT = cosines_TT + _RIDGE * torch.eye(len(cosines_TT), dtype=cosines_TT.dtype)
    alpha_T = cosines_TT.new_ones(len(cosines_TT))
    for _ in range(_ITERATIONS):
        slope_T = hessian_TT @ alpha_T - 1.0 / alpha_T
        newton_T = torch.linalg.solve(hessian_TT + torch.diag(alpha_T**-2), slope_T)
        decrement = math.sqrt(max(float(slope_T @ newton_T), 0.0))
        alpha_T = alpha_T - (newton_T if decrement < 0.25 else newton_T / (1.0 + decrement))
        if decrement < 1e-12:
            break
    return alpha_T
