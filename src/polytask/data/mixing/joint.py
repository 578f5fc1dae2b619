from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from .base import Mixing, TaskNumbers, end_of_epoch, mixings


@mixings.register("joint")
class Joint(Mixing):
    """A batch of every task in each step. The epoch ends with the longest task (short ones cycle) or with the shortest."""

    joins_tasks = True

    def __init__(self, *, until: Literal["longest", "shortest"] = "longest") -> None:
        self.until = until

    def epoch_steps(self, batches_T: Sequence[int]) -> int:
        return end_of_epoch(batches_T, self.until)

    def draw(self, batches_T: Sequence[int], steps: int, generator: np.random.Generator) -> TaskNumbers:
        return np.tile(np.arange(len(batches_T)), (steps, 1))
