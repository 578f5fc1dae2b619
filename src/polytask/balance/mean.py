from __future__ import annotations

from torch import Tensor

from .base import LossBalance, balances


@balances.register("mean")
class Mean(LossBalance):
    """Every loss weighs 1/T, heads included: what is minimised is the average (Irgau & Lalgudi, CS224N report, §4).

    Penalties are part of their task's loss here, too. Adam divides the factor out again: it tells through clipping, Adam's
    ε and decay that is added to the gradient.
    """

    adapts = False

    def weights(self, losses_T: Tensor | None) -> Tensor:
        return self.given_T / len(self.given_T)
