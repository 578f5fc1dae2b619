from __future__ import annotations

import torch
from torch import Tensor

from .base import GramianAggregator, aggregators


@aggregators.register("pcgrad")
class PCGrad(GramianAggregator):
    """Projects each gradient off those that it conflicts with, in random order (Yu et al. 2020, alg. 1), and adds up.

    A projected gradient is a combination of the originals, so row i of ``combination_TT`` is all there is to track of
    gᵢᴾᶜ, and gᵢᴾᶜ · gⱼ is that row times the Gramian's column j.
    """

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        tasks = len(gramian_TT)
        combination_TT = torch.eye(tasks, dtype=gramian_TT.dtype)
        for i in range(tasks):
            for j in torch.randperm(tasks, generator=generator).tolist():
                inner = combination_TT[i] @ gramian_TT[:, j]
                if i != j and inner < 0 and gramian_TT[j, j] > 0:
                    combination_TT[i, j] -= inner / gramian_TT[j, j]
        return combination_TT.sum(0)
