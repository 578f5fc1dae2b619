from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from .base import GramianAggregator, aggregators
from .roots import root, scaled


@aggregators.register("mgda")
class MGDA(GramianAggregator):
    """The shortest convex combination of the gradients, zero where no direction helps all (MGDA; Désidéri 2012).

    Sener & Koltun (2018, eq. 3) approach it by Frank-Wolfe steps. For few tasks it can be had exactly: of ‖Au‖² + (Σu − 1)²
    over u = tα ≥ 0, with Σα = 1 and AᵀA the Gramian, the minimum has the α of the least ‖Aα‖, whatever its t.
    A task without a gradient takes all the weight, and nothing moves: by this measure it cannot be improved.
    """

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        root_TT = root(scaled(gramian_TT)[0])
        tasks = len(root_TT)
        u_T, _ = nnls(np.vstack([root_TT, np.ones(tasks)]), np.append(np.zeros(tasks), 1.0))
        return torch.from_numpy(u_T / u_T.sum())
