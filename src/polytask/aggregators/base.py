"""The aggregator contract. Shapes: T tasks with rows in the step."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from polytask.registry import Registry


class Aggregator(ABC):
    """Says with which weights the tasks' encoder gradients are added up; heads keep their own gradients.

    All that it may know of the gradients is their Gramian: every published method of this kind is a function of it.
    """

    def constant(self, tasks: int) -> float | None:
        """Return the weight that each of ``tasks`` gradients gets whatever they are, or None if the Gramian decides.

        With a constant weight all tasks share one gradient buffer, and nothing is paid for surgery.
        """
        return None

    @abstractmethod
    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        """Return the weights ``(T,)``, float64, for the inner products ``gramian_TT`` (float64, CPU) of the gradients.

        Whatever is random is drawn from ``generator``, which is seeded for the step.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Return what ``load_state_dict`` needs to go on as if nothing had happened."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up a saved state."""


aggregators: Registry[Aggregator] = Registry("aggregators", "polytask.aggregators")
