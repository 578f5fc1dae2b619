"""Who looks on while a run trains."""

from __future__ import annotations

from collections.abc import Mapping

from .events import StepResult
from .scores import Scores


class Watcher:
    """Told of what happens, as it happens; this one keeps it to itself."""

    def stage(self, number: int, stages: int, start: int, steps: int) -> None:
        """A stage begins at step ``start`` of ``steps``."""

    def step(self, step: int, result: StepResult) -> None:
        """A step was taken."""

    def evaluating(self, task: str, rows: int, done: int) -> None:
        """``done`` of a task's ``rows`` dev rows are predicted."""

    def evaluated(self, epoch: float, scores: Mapping[str, Scores], aggregate: float, best: bool) -> None:
        """The dev tables were scored."""

    def note(self, text: str) -> None:
        """Something worth a line happened."""
