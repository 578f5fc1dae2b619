from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from .base import GramianAggregator, aggregators
from .roots import Floats, scaled

_STATIONARY = 1e-9  # of the gradients' mean length: a combination this short has no direction


@aggregators.register("cagrad")
class CAGrad(GramianAggregator):
    """Helps the worst task as much as it can within a ball around the average gradient (CAGrad; B. Liu et al. 2021, alg. 1).

    ``c``: the ball's radius, in lengths of the average; below 1 the average loss is what is minimised in the end.
    """

    def __init__(self, *, c: float = 0.5) -> None:
        if c < 0:
            raise ValueError(f"c is {c}; it is a number from 0 on")
        self.c = c

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        unit_TT = scaled(gramian_TT)[0].numpy()
        mean_T = np.full(len(unit_TT), 1.0 / len(unit_TT))
        radius = self.c * _length(unit_TT, mean_T)
        worst_T = _worst(unit_TT, mean_T, radius)
        length = _length(unit_TT, worst_T)
        # Where a combination vanishes no direction in the ball is better than another, and the average is left alone.
        return torch.from_numpy(mean_T + radius / length * worst_T if length > _STATIONARY else mean_T)


def _worst(gramian_TT: Floats, mean_T: Floats, radius: float) -> Floats:
    """Return the w on the simplex that minimises g_w · g₀ + ``radius`` ‖g_w‖, the dual of the problem."""
    inner_T = gramian_TT @ mean_T

    def value(w_T: Floats) -> float:
        return float(w_T @ inner_T + radius * _length(gramian_TT, w_T))

    def slope(w_T: Floats) -> Floats:
        slope_T: Floats = inner_T + radius * (gramian_TT @ w_T) / max(_length(gramian_TT, w_T), _STATIONARY)
        return slope_T

    total = {"type": "eq", "fun": lambda w_T: w_T.sum() - 1.0, "jac": np.ones_like}
    found = minimize(
        value,
        mean_T,
        jac=slope,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(mean_T),
        constraints=total,
        options={"ftol": 1e-14, "maxiter": 200},
    )
    w_T: Floats = np.clip(found.x, 0.0, None) / np.clip(found.x, 0.0, None).sum()
    return w_T


def _length(gramian_TT: Floats, w_T: Floats) -> float:
    return math.sqrt(max(float(w_T @ gramian_TT @ w_T), 0.0))
