from __future__ import annotations

import torch
from torch import Tensor

from .base import LossBalance, balances


@balances.register("dwa")
class DynamicWeightAverage(LossBalance):
    """Weighs tasks by how slowly their losses fall from epoch to epoch (DWA; Liu et al. 2019, MTAN, eq. 7).

    λ = T · softmax(r / ``temperature``), where r is a task's mean loss over the last period over that of the period
    before; it is 1 until there are two. ``period``: steps, an epoch's by default.
    """

    def __init__(
        self, given_T: Tensor, epoch_steps: int, *, temperature: float = 2.0, period: int | None = None
    ) -> None:
        super().__init__(given_T, epoch_steps)
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; it is a number above 0")
        if period is not None and period < 1:
            raise ValueError(f"period is {period}; it is a number of steps, 1 at least")
        self.temperature = temperature
        self.period = period or epoch_steps
        self.sums_T, self.counts_T = torch.zeros(2, len(given_T), dtype=torch.float64)
        self.last_T, self.before_T = torch.full((2, len(given_T)), torch.nan, dtype=torch.float64)
        self.steps = torch.zeros((), dtype=torch.int64)

    def weights(self, losses_T: Tensor | None) -> Tensor:
        ratio_T = self.last_T / self.before_T
        ratio_T = torch.where(ratio_T.isfinite(), ratio_T, 1.0)
        return self.given_T * len(ratio_T) * torch.softmax(ratio_T / self.temperature, 0)

    def observe(self, losses_T: Tensor, after_T: Tensor | None) -> None:
        self.sums_T += losses_T.double().nan_to_num(0.0)
        self.counts_T += (~losses_T.isnan()).double()
        self.steps += 1
        if self.steps % self.period == 0:
            mean_T = torch.where(self.counts_T > 0, self.sums_T / self.counts_T, self.last_T)
            self.before_T.copy_(self.last_T)
            self.last_T.copy_(mean_T)
            self.sums_T.zero_()
            self.counts_T.zero_()

    def too_short(self, steps: int) -> str | None:
        if steps > 2 * self.period:
            return None
        return (
            f"'dwa' compares two periods of {self.period} steps before it weighs anything, and {steps} steps are not "
            "more than these two: all weights stay as they are given. A smaller 'period' would let it act."
        )

    def state_dict(self) -> dict[str, Tensor]:
        names = ("sums", "counts", "last", "before")
        held = (self.sums_T, self.counts_T, self.last_T, self.before_T)
        return dict(zip(names, held, strict=True)) | {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])
