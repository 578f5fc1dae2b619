"""The regularizer contract. Shapes: N rows of a micro-batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from polytask.model import Model, Out, TaskView
from polytask.registry import Registry


class Regularizer(ABC):
    """A penalty on each row of a task, part of that task's gradient."""

    @abstractmethod
    def penalty(self, view: TaskView, clean: Out) -> Tensor:
        """Return each row's penalty, ``(N,)``, not yet weighed. ``clean`` is the pass that the loss comes from."""

    def after_step(self, model: Model) -> None:
        """Take note that the weights have moved."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what ``load_state_dict`` needs to go on as if nothing had happened."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up a saved state."""


regularizers: Registry[Regularizer] = Registry("regularizers", "polytask.regularizers")
