from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from polytask.model import Dropout, Model, TaskOutput, TaskView

from .base import Regularizer, Teacher, regularizers

_PAPER = (0.1, 0.99, 0.999)  # β of the first tenth of the updates, and of the others


@regularizers.register("bregman")
class Bregman(Regularizer):
    """Momentum Bregman proximal point (Jiang et al. 2020, §3.2): predictions stay near those of a slow teacher.

    The penalty is ℓₛ(f(x; θ), f(x; θ̃)), the recipe's ``weight`` is μ. After each step θ̃ ← (1 − β) θ + β θ̃, from the
    weights at the stage's start on. ``beta`` is a number, or "paper": 0.99 in the first tenth of the stage, then 0.999.

    ``dropout`` is the teacher's. "same": the masks of the clean pass, so that the penalty says how far the weights have
    moved, and is 0 while they have not. "off" and "fresh" add the distance that dropout alone makes (as in the mean
    teacher of Tarvainen & Valpola 2017), at the proximal point too.
    """

    def __init__(self, *, beta: Literal["paper"] | float = "paper", dropout: Dropout = "same") -> None:
        if isinstance(beta, float) and not 0 <= beta < 1:
            raise ValueError(f"beta is {beta:g}; the share that the teacher keeps of itself is at least 0 and below 1")
        self.beta = beta
        self.dropout: Dropout = dropout
        self._teacher: Teacher | None = None
        self._early = 0.0
        self._updates = torch.zeros((), dtype=torch.int64)

    def begin(self, twin: Callable[[], Teacher], steps: int) -> None:
        self._teacher = twin()
        self._early = _PAPER[0] * steps
        self._updates = torch.zeros((), dtype=torch.int64)

    def penalty(self, view: TaskView, clean: TaskOutput) -> Tensor:
        with torch.no_grad():
            taught = view.run(dropout=self.dropout, model=self._taught_by().model)
        return view.divergence(clean, taught)

    def after_step(self, model: Model) -> None:
        self._updates += 1
        self._taught_by().follow(1.0 - self._momentum())

    def end(self) -> None:
        self._teacher = None

    def state_dict(self) -> dict[str, Tensor]:
        held = {} if self._teacher is None else self._teacher.state_dict()
        return {"updates": self._updates, **{f"teacher.{name}": tensor for name, tensor in held.items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._updates.copy_(state["updates"])
        teacher = {name.removeprefix("teacher."): t for name, t in state.items() if name.startswith("teacher.")}
        self._taught_by().load_state_dict(teacher)

    def _momentum(self) -> float:
        if isinstance(self.beta, float):
            return self.beta
        _, early, late = _PAPER
        return early if int(self._updates) <= self._early else late

    def _taught_by(self) -> Teacher:
        if self._teacher is None:
            raise ValueError("a teacher is made when a stage begins; this one has not begun")
        return self._teacher
