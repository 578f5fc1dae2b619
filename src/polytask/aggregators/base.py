"""The aggregator contract, in two storeys. Shapes: T tasks with rows in the step, n numbers of their gradients.

An ``Aggregator`` makes one gradient of T. Most published methods need nothing of the gradients but their inner products:
they are ``GramianAggregator``s, which only say with which weights to add up. Whoever looks at single coordinates
overrides ``combine`` itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from polytask.registry import Registry


class Aggregator(ABC):
    """Makes one gradient of an encoder from those of several tasks; heads keep their own gradients.

    >>> from polytask.aggregators.base import aggregators
    >>> gradients_Tn = torch.tensor([[1.0, 1.0], [-1.0, 0.5]])
    >>> aggregators.create("pcgrad").combine(gradients_Tn)
    tensor([0.2500, 2.2500])
    """

    @abstractmethod
    def combine(self, gradients_Tn: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the combined gradient ``(n,)`` of gradients ``(T, n)``, which stay as they are.

        Whatever is random is drawn from ``generator``, a CPU one (torch's default without): the training step hands in
        one that is seeded for the step, equal in every process.
        """

    def constant(self, tasks: int) -> float | None:
        """Return the weight that each of ``tasks`` gradients gets whatever they are, or None if that depends on them.

        With a constant weight all tasks share one gradient buffer, and nothing is paid for surgery.
        """
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """Return what ``load_state_dict`` needs to go on as if nothing had happened."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up a saved state."""


class GramianAggregator(Aggregator):
    """Adds the gradients up, with weights that follow from their inner products alone."""

    @abstractmethod
    def weights(self, gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
        """Return the weights ``(T,)``, float64, for the inner products ``gramian_TT`` (float64, CPU) of the gradients.

        Whatever is random is drawn from ``generator``, which is seeded for the step.
        """

    def combine(self, gradients_Tn: Tensor, generator: torch.Generator | None = None) -> Tensor:
        exact_Tn = gradients_Tn.double()
        weights_T = self.weights((exact_Tn @ exact_Tn.t()).cpu(), generator or torch.default_generator)
        return weights_T.to(gradients_Tn) @ gradients_Tn


aggregators: Registry[Aggregator] = Registry("aggregators", "polytask.aggregators")
