from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .base import Mixing, TaskNumbers, mixings


@mixings.register("temperature")
class Temperature(Mixing):
    """Each step draws a task with probability ∝ n^(1/τ): τ = 1 by size, 2 by square root, ∞ evenly.

    As between languages (Arivazhagan et al. 2019, arXiv:1907.05019, §4.2); the square root also in Stickland & Murray
    (2019, §4.1). n is the batches of a pass over the task, where the papers' is its rows: ``sample`` and batch sizes count,
    and a task with larger batches comes up less often.
    """

    def __init__(self, *, tau: float = 2.0) -> None:
        if tau < 1:
            raise ValueError(f"tau is {tau}; it is at least 1")
        self.tau = tau

    def epoch_steps(self, batches_T: Sequence[int]) -> int:
        return sum(batches_T)

    def draw(self, batches_T: Sequence[int], steps: int, generator: np.random.Generator) -> TaskNumbers:
        return _draw(batches_T, np.full(steps, 1.0 / self.tau), generator)


@mixings.register("annealed")
class Annealed(Mixing):
    """Draws a task with probability ∝ n^α, α = 1 − 0.8 (e − 1)/(E − 1) in epoch e of E (Stickland & Murray 2019, §4.1).

    n is the batches of a pass over the task; the paper's are its rows. So ``sample`` and batch sizes count.
    """

    def __init__(self, *, slope: float = 0.8) -> None:
        if not 0 <= slope <= 1:
            raise ValueError(f"slope is {slope}; it lies between 0 and 1")
        self.slope = slope

    def epoch_steps(self, batches_T: Sequence[int]) -> int:
        return sum(batches_T)

    def draw(self, batches_T: Sequence[int], steps: int, generator: np.random.Generator) -> TaskNumbers:
        epoch_S = np.arange(steps) // self.epoch_steps(batches_T)
        last = max(int(epoch_S[-1]), 1)
        return _draw(batches_T, 1.0 - self.slope * epoch_S / last, generator)

    def too_short(self, batches_T: Sequence[int], steps: int) -> str | None:
        epoch = self.epoch_steps(batches_T)
        if steps > epoch:
            return None
        return (
            f"'annealed' changes from epoch to epoch, and {steps} steps are not more than the {epoch} of one: it draws "
            "by size throughout, as 'temperature' does with tau = 1."
        )


def _draw(batches_T: Sequence[int], power_S: NDArray[np.float64], generator: np.random.Generator) -> TaskNumbers:
    uniform_S = generator.random(len(power_S))
    weight_ST = np.asarray(batches_T, dtype=np.float64)[None, :] ** power_S[:, None]
    edge_ST = weight_ST.cumsum(1) / weight_ST.sum(1, keepdims=True)
    return np.asarray((uniform_S[:, None] >= edge_ST[:, :-1]).sum(1, keepdims=True))
