from __future__ import annotations

import torch
from torch import Tensor

from .base import LossBalance, balances
from .descent import Learned

_LEAST = 1e-8  # of a loss whose logarithm is taken
_TINY = torch.finfo(torch.float64).tiny


@balances.register("famo")
class FAMO(LossBalance):
    """Lets all losses fall at one relative rate, learned from how far each step lowers them (FAMO; B. Liu et al. 2023, alg. 1).

    Weights are zᵢ / Lᵢ, scaled to sum up to 1, with z = softmax(ξ); ξ then goes down the gradient of
    Σ zᵢ (log Lᵢ − log Lᵢ after the update), with ``learning_rate`` (the paper's β) and ``decay`` (its γ), by Adam as in
    the authors' own runs. Joint mixing only: it weighs the tasks of one step against each other. Losses are meant without
    the penalties of regularizers: the second look has none, and a difference is only of like things.
    """

    uses_losses = True
    looks_again = True

    def __init__(self, given_T: Tensor, epoch_steps: int, *, learning_rate: float = 0.025, decay: float = 0.01) -> None:
        super().__init__(given_T, epoch_steps)
        if decay < 0:
            raise ValueError(f"decay is {decay}; it is a number from 0 on")
        self.decay = decay
        self.xi = Learned(len(given_T), learning_rate)

    def weights(self, losses_T: Tensor | None) -> Tensor:
        assert losses_T is not None
        there_T = losses_T.isfinite()
        share_T = torch.where(there_T, self._z_T(there_T) / losses_T.double().clamp_min(_LEAST), 0.0)
        return self.given_T * share_T / share_T.sum().clamp_min(_TINY)

    def observe(self, losses_T: Tensor, after_T: Tensor | None) -> None:
        assert after_T is not None
        there_T = losses_T.isfinite() & after_T.isfinite()
        fell_T = losses_T.double().clamp_min(_LEAST).log() - after_T.double().clamp_min(_LEAST).log()
        fell_T = torch.where(there_T, fell_T, 0.0)
        z_T = self._z_T(there_T)
        slope_T = z_T * (fell_T - (z_T * fell_T).sum()) + self.decay * self.xi.values_T
        self.xi.step(torch.where(there_T, slope_T, torch.nan))

    def _z_T(self, there_T: Tensor) -> Tensor:
        z_T = self.xi.values_T.exp() * there_T
        share_T: Tensor = z_T / z_T.sum().clamp_min(_TINY)
        return share_T

    def state_dict(self) -> dict[str, Tensor]:
        return self.xi.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.xi.load_state_dict(state)
