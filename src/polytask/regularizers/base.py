"""The regularizer contract. Shapes: N rows of a micro-batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from polytask.model import Model, TaskOutput, TaskView
from polytask.registry import Registry


class Teacher(Protocol):
    """A second copy of the weights that a stage trains, which follows them at a distance."""

    @property
    def model(self) -> Model:
        """The model with these weights; what the stage does not train, it shares. It takes no gradient."""

    def follow(self, share: float) -> None:
        """Go ``share`` of the way towards the weights in training."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return its fp32 weights."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy saved weights in."""


class Regularizer(ABC):
    """A penalty on each row of a task, part of that task's gradient."""

    @abstractmethod
    def penalty(self, view: TaskView, clean: TaskOutput) -> Tensor:
        """Return each row's penalty, ``(N,)``, not yet weighed. ``clean`` is the pass that the loss comes from.

        ``view`` is the regularizer's own: its fresh dropout does not depend on what others draw.
        """

    def begin(self, twin: Callable[[], Teacher], steps: int) -> None:
        """Take note that a stage of ``steps`` steps begins. ``twin()`` is a new copy of the weights as they are now."""

    def after_step(self, model: Model) -> None:
        """Take note that the weights have moved."""

    def end(self) -> None:
        """Let go of whatever belongs to the stage."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what ``load_state_dict`` needs to go on as if nothing had happened."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up a saved state."""


regularizers: Registry[Regularizer] = Registry("regularizers", "polytask.regularizers")


@dataclass(frozen=True)
class Penalty:
    """A regularizer and its weight λ for each task that it acts on."""

    regularizer: Regularizer
    weights: Mapping[str, float]
