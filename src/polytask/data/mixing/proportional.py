from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .base import Mixing, TaskNumbers, mixings


@mixings.register("proportional")
class Proportional(Mixing):
    """Every batch of every task once an epoch, shuffled (X. Liu et al. 2019, MT-DNN, alg. 1).

    So a task comes up as often as a pass over it has batches: ``sample`` and batch sizes count.
    """

    def epoch_steps(self, batches_T: Sequence[int]) -> int:
        return sum(batches_T)

    def draw(self, batches_T: Sequence[int], steps: int, generator: np.random.Generator) -> TaskNumbers:
        epoch = np.repeat(np.arange(len(batches_T)), batches_T)
        epochs = -(-steps // len(epoch))
        return np.concatenate([generator.permutation(epoch) for _ in range(epochs)])[:steps, None]
