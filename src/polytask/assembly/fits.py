"""Whether the parts of a model and its stages fit together, once the encoder is known."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.errors import RecipeError
from polytask.model import Model
from polytask.training.stages import Stage, reaches


def check_reach(model: Model, stages: Sequence[Stage]) -> None:
    """Check that every task of a stage has something to learn there."""
    for number, stage in enumerate(stages):
        for task in stage.tasks:
            if not reaches(model, stage, task):
                raise RecipeError(
                    f"stages.{number}: task '{task}' has no weights of its own, and the stage trains no layer that it "
                    "reads; leave it out of the stage's 'tasks', or train more of the encoder."
                )
