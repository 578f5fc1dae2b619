"""The contract of loss balance. Shapes: T tasks of the stage, in the recipe's order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from polytask.registry import Registry


class LossBalance(ABC):
    """Weighs the losses of the stage's tasks.

    Weights that follow from what earlier steps told ``observe`` are asked for before a step's backward passes, and
    scale its losses. A member that ``uses_losses`` weighs a step by its own losses; since a gradient is linear in its
    weight, such a step computes every task's gradient unweighted, in a buffer of its own, and scales it afterwards:
    exact, without holding T graphs. One that ``adapts`` has other weights from step to step, which the journal records.
    One that ``looks_again`` is told the losses of the same rows, under the same
    dropout, after the update too; that costs another forward pass.
    """

    adapts: ClassVar[bool] = True
    uses_losses: ClassVar[bool] = False
    looks_again: ClassVar[bool] = False

    def __init__(self, given_T: Tensor, epoch_steps: int) -> None:
        """``given_T``: the factors that the recipe gives each task; ``epoch_steps``: how many steps an epoch has."""
        self.given_T = given_T
        self.epoch_steps = epoch_steps

    @abstractmethod
    def weights(self, losses_T: Tensor | None) -> Tensor:
        """Return the weights of all tasks, ``(T,)``, the recipe's factors included.

        ``losses_T``: the step's mean losses, NaN for tasks without rows in it; None if the member does not use them.
        """

    def observe(self, losses_T: Tensor, after_T: Tensor | None) -> None:
        """Take note of what a step has minimised: its mean losses with their penalties, ``(T,)``, NaN for absent tasks.

        ``after_T``: the same rows' losses after the update, None if the member does not look again. One that does is
        told losses without penalties, before and after: to look at penalties again would cost as much as the step.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Return what ``load_state_dict`` needs to go on as if nothing had happened."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up a saved state."""

    def too_short(self, steps: int) -> str | None:
        """Say why the member cannot act in a stage of so few steps; None if it can."""
        return None


balances: Registry[LossBalance] = Registry("balance", "polytask.balance", "loss balances", trial=(torch.ones(2), 1))
