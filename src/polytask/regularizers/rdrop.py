from __future__ import annotations

import math

from torch import Tensor

from polytask.model import TaskOutput, TaskView

from .base import Regularizer, regularizers


@regularizers.register("rdrop")
class RDrop(Regularizer):
    """R-Drop (Liang et al. 2021, eq. 2–4): a second pass with fresh dropout should predict the same, and right.

    The paper adds NLL(2) + α · ½ (KL(1‖2) + KL(2‖1)) to NLL(1). With the recipe's ``weight`` 1 the penalty is just
    that; a kind that has no probabilities takes its own divergence for the two KLs.
    """

    def __init__(self, *, alpha: float = 5.0) -> None:
        if not (alpha >= 0 and math.isfinite(alpha)):
            raise ValueError(f"alpha is {alpha}; it is a number of at least 0")
        self.alpha = alpha

    def penalty(self, view: TaskView, clean: TaskOutput) -> Tensor:
        second = view.run(dropout="fresh")
        return second.loss_N + self.alpha * 0.5 * view.divergence(clean, second)
