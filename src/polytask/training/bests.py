"""The joint best: each encoder, with the heads that stand on it, as it was when its tasks scored best.

Encoders share nothing, so the best of each can be put together, whichever stage or step it comes from: with one encoder
for all that is the checkpoint with the best aggregate, with an encoder for each task it is each task at its own best.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from polytask.model import Model

from .stages import Stage


@dataclass(frozen=True)
class Mixture:
    """Weights that are yet to be put together: those of ``kept`` encoders from a former best, all others as they are."""

    former: str
    kept: frozenset[str]

    def of(self, model: Model, now: Mapping[str, Tensor], former: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights, by name."""
        return {name: (former if owner(model, name) in self.kept else now)[name] for name in now}


def owner(model: Model, parameter: str) -> str:
    """Return the encoder that a parameter belongs to, or that its head stands on."""
    part, name, _ = parameter.split(".", 2)
    return name if part == "encoders" else model.encoder_of[name]


def judges_of(model: Model, stages: Sequence[Stage], scored: Iterable[str]) -> dict[str, list[str]]:
    """Return the tasks by whose scores each encoder is judged: those that some stage trains.

    A head that stays as it was drawn scores by chance, and chance must not choose.
    """
    trained = {task for stage in stages for task in stage.tasks}
    by_encoder: dict[str, list[str]] = {}
    for task in scored:
        if task in trained:
            by_encoder.setdefault(model.encoder_of[task], []).append(task)
    return by_encoder


def begun(judges: Mapping[str, Collection[str]], scores: Collection[str]) -> frozenset[str]:
    """Return the encoders that have a best already: all their judges have a score there."""
    return frozenset(encoder for encoder, tasks in judges.items() if all(task in scores for task in tasks))
