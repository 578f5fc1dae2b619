"""What a balance that learns moves its numbers by. Shapes: T tasks."""

from __future__ import annotations

import torch
from torch import Tensor

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class Learned:
    """T numbers, 0 at first, each with an Adam of its own (Kingma & Ba 2015): one without a gradient stays as it is."""

    def __init__(self, tasks: int, learning_rate: float) -> None:
        if learning_rate <= 0:
            raise ValueError(f"learning_rate is {learning_rate}; it is a number above 0")
        self.learning_rate = learning_rate
        self.values_T, self.m_T, self.v_T, self.steps_T = torch.zeros(4, tasks, dtype=torch.float64)

    def step(self, gradient_T: Tensor) -> None:
        """Take a step down ``gradient_T``; NaN is none."""
        there_T = gradient_T.isfinite()
        g_T = gradient_T.double()
        steps_T = self.steps_T + 1
        m_T, v_T = _BETA1 * self.m_T + (1 - _BETA1) * g_T, _BETA2 * self.v_T + (1 - _BETA2) * g_T.square()
        mean_T, square_T = m_T / (1 - _BETA1**steps_T), v_T / (1 - _BETA2**steps_T)
        values_T = self.values_T - self.learning_rate * mean_T / (square_T.sqrt() + _EPSILON)
        self._take({"values": values_T, "m": m_T, "v": v_T, "steps": steps_T}, there_T)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the numbers and their moments."""
        return {"values": self.values_T, "m": self.m_T, "v": self.v_T, "steps": self.steps_T}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy the numbers and their moments in."""
        self._take(state, torch.ones_like(self.values_T, dtype=torch.bool))

    def _take(self, new: dict[str, Tensor], where_T: Tensor) -> None:
        for name, held_T in self.state_dict().items():
            held_T.copy_(torch.where(where_T, new[name], held_T))
