from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import GramianAggregator, aggregators

_LARGEST = 1.0 - 1e-6  # of a cosine to reach: 1 would take infinitely much of the other gradient


@aggregators.register("gradvac")
class GradVac(GramianAggregator):
    """Turns each gradient to the cosine that it usually has with each other, where it is lower (Wang et al. 2021, alg. 1).

    Row i of ``combination_TT`` is all there is to track of gradient i, as in PCGrad; ``usual_TT`` is the paper's φ̂, an
    average in which a step counts ``beta``. It starts from 0, so that the first step is PCGrad's, and starts anew
    when a step has another number of tasks.
    """

    def __init__(self, *, beta: float = 0.01) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f"beta is {beta}; it lies between 0 and 1")
        self.beta = beta
        self.usual_TT: Tensor | None = None

    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        tasks = len(gramian_TT)
        if self.usual_TT is None or len(self.usual_TT) != tasks:
            self.usual_TT = torch.zeros_like(gramian_TT)
        combination_TT = torch.eye(tasks, dtype=gramian_TT.dtype)
        for i in range(tasks):
            for j in torch.randperm(tasks, generator=generator).tolist():
                if i != j:
                    combination_TT[i, j] += self._turn(gramian_TT, combination_TT[i], i, j)
        return combination_TT.sum(0)

    def _turn(self, gramian_TT: Tensor, own_T: Tensor, i: int, j: int) -> float:
        """Return how much of gradient j is added to gradient i, which is ``own_T`` of them all by now."""
        assert self.usual_TT is not None
        norm = math.sqrt(max(float(own_T @ gramian_TT @ own_T), 0.0))
        other = math.sqrt(float(gramian_TT[j, j]))
        if norm * other == 0.0:
            return 0.0
        cosine = min(max(float(own_T @ gramian_TT[:, j]) / (norm * other), -1.0), 1.0)
        usual = min(float(self.usual_TT[i, j]), _LARGEST)
        self.usual_TT[i, j] += self.beta * (cosine - self.usual_TT[i, j])
        if cosine >= usual:
            return 0.0
        sine, usual_sine = math.sqrt(1 - cosine**2), math.sqrt(1 - usual**2)
        return norm * (usual * sine - cosine * usual_sine) / (other * usual_sine)

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.usual_TT is None else {"usual": self.usual_TT}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.usual_TT = state["usual"].clone() if "usual" in state else None
