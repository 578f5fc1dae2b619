"""The α-fair weights of gradients, which Nash-MTL and FairGrad share. Shapes: T tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from .roots import cosines

_RIDGE = 1e-6  # where gradients cancel out, fairness has no bounds
_ITERATIONS = 500
_DONE = 1e-16  # of what a step still gains, relative to the objective's own size


def fair(gramian_TT: Tensor, alpha: float) -> Tensor:
    """Return the w with Gw = w^(−1/α); tasks without a gradient get no weight: there is nothing to be fair about.

    It is the minimum of ½wᵀGw − Σ ψ(wᵢ), ψ′(w) = w^(−1/α), which is convex and which Newton steps reach from anywhere,
    as long as none shrinks a weight so far that the curvature there is more than doubled: such a step goes down.
    """
    weights_T = torch.zeros_like(gramian_TT[0])
    moved_T = gramian_TT.diagonal() > 0
    if moved_T.any():
        weights_T[moved_T] = _minimum(gramian_TT[moved_T][:, moved_T], 1.0 / alpha)
    return weights_T


def _minimum(gramian_TT: Tensor, power: float) -> Tensor:
    # With w = su, where s would be the answer if the gradients were orthogonal, H = sGs and q its diagonal, the
    # condition is Hu = q u^(−1/α): gradients of any length start from u = 1.
    alone_T = gramian_TT.diagonal().sqrt() ** (-2.0 / (1.0 + power))
    q_T = alone_T ** (1.0 - power)
    q_T = q_T / q_T.max()
    ridge_TT = _RIDGE * torch.eye(len(q_T), dtype=q_T.dtype)
    h_TT = (cosines(gramian_TT) + ridge_TT) * (q_T[:, None] * q_T).sqrt()
    furthest = 1.0 - 2.0 ** (-1.0 / (1.0 + power))
    u_T = torch.ones_like(q_T)
    for _ in range(_ITERATIONS):
        pull_T = q_T * u_T**-power
        slope_T = h_TT @ u_T - pull_T
        newton_T = torch.linalg.solve(h_TT + torch.diag(power * pull_T / u_T), slope_T)
        shrunk = float((newton_T / u_T).max())
        u_T = u_T - newton_T * (furthest / max(shrunk, furthest))
        if float(slope_T @ newton_T) <= _DONE * float(u_T @ pull_T):
            break
    return u_T * alone_T
