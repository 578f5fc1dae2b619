"""The contract of loss balance. Shapes: T tasks of the stage, in the recipe's order."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from polytask.registry import Registry


class LossBalance(ABC):
    """Weighs the losses of the stage's tasks.

    ``weights`` is asked before a step's backward passes and may use only what earlier steps told ``observe``: that is
    what lets every task's loss be weighed as it is computed, without holding T graphs.
    """

    def __init__(self, given_T: Tensor) -> None:
        """``given_T``: the factors that the recipe gives each task."""
        self.given_T = given_T

    @abstractmethod
    def weights(self) -> Tensor:
        """Return the weights of all tasks, ``(T,)``."""

    def observe(self, losses_T: Tensor) -> None:
        """Take note of a step's mean losses, ``(T,)``, NaN for tasks that had no rows in it."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what ``load_state_dict`` needs to go on as if nothing had happened."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up a saved state."""


balances: Registry[LossBalance] = Registry("balance", "polytask.balance")
