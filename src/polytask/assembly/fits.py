"""Whether the parts of a model and its stages fit together, once the encoder is known."""

from __future__ import annotations

from collections.abc import Sequence

from polytask.encoder.base import Encoder
from polytask.errors import RecipeError
from polytask.heads.pooling.base import Pooling
from polytask.model import Model
from polytask.training.stages import Stage, reaches


def check_layers(task: str, pooling: Pooling, encoder: Encoder) -> None:
    """Check that the encoder has the layers that a pooling reads, and that all of them are as wide as it says."""
    try:
        lowest = min(pooling.reads(encoder.depth))
    except ValueError as error:
        raise RecipeError(f"tasks.{task}.pooling: {error}.") from error
    if pooling.uses_pooler and not encoder.pools_any_layer and pooling.reads(encoder.depth) != [encoder.depth]:
        raise RecipeError(
            f"tasks.{task}.pooling: the pooler of an encoder from transformers reads the last layer alone; leave out "
            "'layers', or use 'first'."
        )
    if lowest < encoder.lowest_layer:
        raise RecipeError(
            f"tasks.{task}.pooling: layers has {lowest}; this encoder's layers are counted from {encoder.lowest_layer}: "
            "its embeddings have another width."
        )


def check_reach(model: Model, stages: Sequence[Stage]) -> None:
    """Check that every task of a stage has something to learn there."""
    for number, stage in enumerate(stages):
        for task in stage.tasks:
            if not reaches(model, stage, task):
                raise RecipeError(
                    f"stages.{number}: task '{task}' has no weights of its own, and the stage trains no layer that it "
                    "reads; leave it out of the stage's 'tasks', or train more of the encoder."
                )
