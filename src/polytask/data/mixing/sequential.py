from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from .base import Mixing, TaskNumbers, mixings, repeat_to


@mixings.register("sequential")
class Sequential(Mixing):
    """One task after another, in the recipe's order: within each epoch, or over the whole stage (``per = "stage"``).

    Within each epoch is what Kumar does (CS224N report, §4), one task to its end before the next what Xu does (§3.2).
    """

    def __init__(self, *, per: Literal["epoch", "stage"] = "epoch") -> None:
        self.per = per

    def epoch_steps(self, batches_T: Sequence[int]) -> int:
        return sum(batches_T)

    def draw(self, batches_T: Sequence[int], steps: int, generator: np.random.Generator) -> TaskNumbers:
        epoch = np.repeat(np.arange(len(batches_T)), batches_T)
        sequence = repeat_to(epoch[:, None], steps)
        return np.sort(sequence, axis=0) if self.per == "stage" else sequence
