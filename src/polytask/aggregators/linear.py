from __future__ import annotations

import torch
from torch import Tensor

from .base import GramianAggregator, aggregators


@aggregators.register("sum")
class Sum(GramianAggregator):
    """Adds the tasks' gradients up: the gradient of the summed losses (Jeon, CS224N report, §5.4)."""

    def constant(self, tasks: int) -> float:
        return 1.0

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        return torch.ones_like(gramian_TT[0])


@aggregators.register("mean")
class Mean(GramianAggregator):
    """Averages the tasks' gradients of the encoder, and heads keep their own whole.

    Where the losses are averaged, heads learn from a T-th of theirs, too: that is the balance "mean" (with the sum).
    """

    def constant(self, tasks: int) -> float:
        return 1.0 / tasks

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        return torch.full_like(gramian_TT[0], 1.0 / len(gramian_TT))
