"""Members whose weights TorchJD computes (Quinton & Rey 2024, arXiv:2406.16232). Shapes: T tasks.

None of them needs a solver under the GPL: UPGrad's projections, which TorchJD leaves to quadprog, are solved here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from torchjd.aggregation import AlignedMTLWeighting, IMTLGWeighting, UPGradWeighting
from torchjd.linalg import DualConeProjector

from .base import GramianAggregator, aggregators
from .roots import cosines, root, scaled


@aggregators.register("imtl_g")
class IMTLG(GramianAggregator):
    """Equal projections of the combined gradient on every task's own direction (IMTL-G; L. Liu et al. 2021, §3.1).

    Equal is not positive: the weights add up to 1, and where a short gradient agrees with long ones that do not agree with
    each other, all projections may be negative, so that the step climbs every loss. That is the method's own.
    """

    def __init__(self) -> None:
        self._weighting = IMTLGWeighting()

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        return self._weighting(scaled(gramian_TT)[0])


@aggregators.register("aligned_mtl")
class AlignedMTL(GramianAggregator):
    """Makes the gradients' principal components equally long, then averages (Aligned-MTL; Senushkin et al. 2023, alg. 1).

    ``scale``: as long as the shortest of them ("min", the paper's), the median one, or their root mean square ("rmse").
    """

    def __init__(self, *, scale: Literal["min", "median", "rmse"] = "min") -> None:
        self._weighting = AlignedMTLWeighting(scale_mode=scale)

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        return self._weighting(scaled(gramian_TT)[0])


@aggregators.register("upgrad")
class UPGrad(GramianAggregator):
    """Projects each gradient onto the cone of directions that conflict with none, and averages (Quinton & Rey 2024)."""

    def __init__(self) -> None:
        self._weighting = UPGradWeighting(projector=NonNegativeLeastSquares())

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        return self._weighting(gramian_TT)


class NonNegativeLeastSquares(DualConeProjector):
    """Solves min vᵀGv subject to v ≥ u as min ‖A(u + z)‖ over z ≥ 0, where AᵀA = G (Lawson & Hanson 1974, ch. 23)."""

    def __call__(self, U: Tensor, G: Tensor) -> Tensor:
        """Return, for each row u of ``U`` ``(…, T)``, the v that is its projection's weights."""
        norms_T = G.diagonal().clamp_min(0.0).sqrt().numpy()
        unit_TT = root(cosines(G))  # on unit vectors, so that short gradients count for the solver's tolerance
        projected = [_projected(u_T, unit_TT, norms_T) for u_T in U.reshape(-1, len(G)).numpy()]
        return torch.from_numpy(np.stack(projected)).view_as(U)


def _projected(u_T: np.ndarray, unit_TT: np.ndarray, norms_T: np.ndarray) -> np.ndarray:
    added_T, _ = nnls(unit_TT, -unit_TT @ (norms_T * u_T))
    found: np.ndarray = u_T + np.divide(added_T, norms_T, out=np.zeros_like(added_T), where=norms_T > 0)
    return found
