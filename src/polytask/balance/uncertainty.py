from __future__ import annotations

from torch import Tensor

from .base import LossBalance, balances
from .descent import Learned


@balances.register("uncertainty")
class Uncertainty(LossBalance):
    """Learns each task's noise and divides its loss by it (Kendall et al. 2018, eq. 7).

    What is minimised is Σ exp(−sᵢ) Lᵢ + sᵢ, twice the paper's sum, over the weights of the model and sᵢ = log σᵢ²,
    which start from 0 with ``learning_rate`` their own, constant and without decay. exp(−sᵢ) is the weight.
    That is eq. 7, of two regressions; for classes the paper has 1/σ² without the ½ (eq. 8–10), which is a factor
    of 2 on such a task's part. A task's penalties count as part of its loss.
    The recipe's factors scale a task's whole part, so sᵢ does not undo them.
    """

    def __init__(self, given_T: Tensor, epoch_steps: int, *, learning_rate: float = 0.01) -> None:
        super().__init__(given_T, epoch_steps)
        self.log_variances = Learned(len(given_T), learning_rate)

    def weights(self, losses_T: Tensor | None) -> Tensor:
        weights_T: Tensor = self.given_T * (-self.log_variances.values_T).exp()
        return weights_T

    def observe(self, losses_T: Tensor, after_T: Tensor | None) -> None:
        self.log_variances.step(self.given_T * (1.0 - (-self.log_variances.values_T).exp() * losses_T))

    def state_dict(self) -> dict[str, Tensor]:
        return self.log_variances.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.log_variances.load_state_dict(state)
