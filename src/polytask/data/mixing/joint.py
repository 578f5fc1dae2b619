from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from .base import Mixing, TaskNumbers, end_of_epoch, mixings


@mixings.register("joint")
class Joint(Mixing):
    """A batch of every task in each step, until the longest task ends (short ones cycle), or the shortest; or stretched.

    With ``until = "stretched"`` the batch size is that of the task that ends first, and the other tasks' batches are so
    much larger that all of them end together (Jeon, CS224N report, §5.3). One step for a batch of each is how both Jeon
    (§5.4: losses summed) and Irgau & Lalgudi (CS224N report, §4: averaged, the balance "mean") train.
    """

    joins_tasks = True

    def __init__(self, *, until: Literal["longest", "shortest", "stretched"] = "longest") -> None:
        self.until = until
        self.stretches = until == "stretched"

    def epoch_steps(self, batches_T: Sequence[int]) -> int:
        return end_of_epoch(batches_T, self.until)

    def draw(self, batches_T: Sequence[int], steps: int, generator: np.random.Generator) -> TaskNumbers:
        return np.tile(np.arange(len(batches_T)), (steps, 1))
