"""The mixing contract. Shapes: T tasks, S steps, K tasks in a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polytask.registry import Registry

TaskNumbers = NDArray[np.int64]


class Mixing(ABC):
    """Draws the task sequence of a whole stage at once, so that any step of it can be looked up later.

    A task's size is what it has of batches in a pass, not of rows: ``sample``, resampling and batch sizes count.
    """

    joins_tasks: bool = False
    """Whether a step holds a batch of every task; surgery needs that."""

    stretches: bool = False
    """Whether batches grow so that a pass over any task takes as many of them as over the shortest."""

    @abstractmethod
    def epoch_steps(self, batches_T: Sequence[int]) -> int:
        """Return the steps of one epoch, when a pass over each task has ``batches_T`` batches."""

    @abstractmethod
    def draw(self, batches_T: Sequence[int], steps: int, generator: np.random.Generator) -> TaskNumbers:
        """Return the tasks of each step, ``(steps, K)``."""

    def too_short(self, batches_T: Sequence[int], steps: int) -> str | None:
        """Say which of the member's promises a stage of so few steps cannot keep; None if it keeps all."""
        return None


mixings: Registry[Mixing] = Registry("mixing", "polytask.data.mixing", "mixing policies")


def end_of_epoch(batches_T: Sequence[int], until: str) -> int:
    """Return the batches of the longest or of the shortest task."""
    return max(batches_T) if until == "longest" else min(batches_T)


def repeat_to(sequence: TaskNumbers, steps: int) -> TaskNumbers:
    """Return a sequence of steps ``(S, K)`` repeated until it has ``steps`` of them."""
    return np.resize(sequence, (steps, sequence.shape[1]))
