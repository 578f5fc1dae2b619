"""What least squares on gradients needs of their Gramian. Shapes: T tasks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def root(gramian_TT: Tensor) -> Floats:
    """Return A ``(T, T)`` with AᵀA = ``gramian_TT``: T vectors (A's columns) as long as the gradients and at their angles."""
    squares_T, axes_TT = torch.linalg.eigh(gramian_TT)
    found: Floats = (squares_T.clamp_min(0.0).sqrt()[:, None] * axes_TT.t()).numpy()
    return found


def cosines(gramian_TT: Tensor) -> Tensor:
    """Return the cosines ``(T, T)`` between gradients; 0 between a gradient that is zero and any other."""
    norms_T = gramian_TT.diagonal().clamp_min(0.0).sqrt()
    inverse_T = torch.where(norms_T > 0, 1.0 / norms_T, 0.0)
    return gramian_TT * inverse_T[:, None] * inverse_T[None, :]


def scaled(gramian_TT: Tensor) -> tuple[Tensor, float]:
    """Return the Gramian divided by the gradients' mean square, and that (1 if all are zero).

    Solvers stop at absolute tolerances, and gradients come in all sizes.
    """
    mean = float(gramian_TT.diagonal().mean())
    return (gramian_TT / mean, mean) if mean > 0 else (gramian_TT, 1.0)
