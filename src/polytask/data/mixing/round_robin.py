from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from .base import Mixing, TaskNumbers, end_of_epoch, mixings, repeat_to


@mixings.register("round_robin")
class RoundRobin(Mixing):
    """A batch of each task in turn, until the longest task ends (short ones cycle), or the shortest (Xu, CS224N report, §3.4).

    Irgau & Lalgudi (CS224N report, §4) take the tasks in turn, too, but step once for all: that is "joint". Kumar's round
    robin (CS224N report, §4) is a pass over each task in turn: "sequential".
    """

    def __init__(self, *, until: Literal["longest", "shortest"] = "longest") -> None:
        self.until = until

    def epoch_steps(self, batches_T: Sequence[int]) -> int:
        return len(batches_T) * end_of_epoch(batches_T, self.until)

    def draw(self, batches_T: Sequence[int], steps: int, generator: np.random.Generator) -> TaskNumbers:
        return repeat_to(np.arange(len(batches_T))[:, None], steps)
