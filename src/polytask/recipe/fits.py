"""Whether the parts of a task fit together: what one gives, the next must take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.encoder.base import Encoder
from polytask.errors import RecipeError, listed
from polytask.heads.heads.base import Head, heads
from polytask.heads.pooling.base import Pooling
from polytask.model import Model
from polytask.tasks.kinds.base import Kind
from polytask.tasks.kinds.regression import OF_COSINE, PLAIN, Regression
from polytask.training.stages import Stage, reaches


def check_head(name: str, head: type[Head], kind: Kind, features: Sequence[Any] | None) -> None:
    """Check a head against what its kind takes and against the pair features that it is given (None: no bi-encoder).

    A cosine goes into an output made for cosines, and nothing else does: 5·x of an unbounded logit would only be a raw
    output by another name, and a raw score that cannot leave [−1, 1] would miss most ranges.
    """
    if head.gives != kind.takes:
        fitting = [other for other in heads.names() if heads.member(other).gives == kind.takes]
        raise RecipeError(
            f"'{name}' gives {_spoken(head.gives)}, and the task's kind as set here takes {_spoken(kind.takes)}: "
            f"use {listed(fitting)}{_or_another_output(kind)}."
        )
    given = None if features is None else tuple(f if isinstance(f, str) else f["name"] for f in features)
    if head.features is not None and given != head.features:
        has = "one vector for both texts (or only one text)" if given is None else listed(given)
        wanted = ", ".join(f'"{feature}"' for feature in head.features)
        raise RecipeError(
            f"'{name}' reads the pair feature {listed(head.features)} and nothing else; here it would read {has}. "
            f'Use pair = {{ name = "bi", features = [{wanted}] }}.'
        )


def check_layers(task: str, pooling: Pooling, encoder: Encoder) -> None:
    """Check that the encoder has the layers that a pooling reads, and that all of them are as wide as it says."""
    try:
        lowest = min(pooling.reads(encoder.depth))
    except ValueError as error:
        raise RecipeError(f"tasks.{task}.pooling: {error}.") from error
    if pooling.uses_summary and not encoder.summarises_layers and pooling.reads(encoder.depth) != [encoder.depth]:
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


def _spoken(what: str) -> str:
    return "a cosine" if what == "cosine" else what


def _or_another_output(kind: Kind) -> str:
    if not isinstance(kind, Regression):
        return ""
    return f", or one of the outputs {listed(PLAIN if kind.takes == 'cosine' else OF_COSINE)}"
