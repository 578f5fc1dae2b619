"""What kinds that learn from texts alone need of a recipe: their columns, pairs and heads, and what they forbid."""

from __future__ import annotations

from typing import Literal

from polytask.errors import RecipeError
from polytask.tasks.kinds.base import Kind, kinds

from .settings import Member, Recipe, StageSettings, TaskSettings


def kind_of(settings: TaskSettings) -> type[Kind]:
    """Return the class of a task's kind; for a kind that is missing or misspelt, what all kinds share."""
    known = settings.kind is not None and settings.kind.name in kinds.names()
    return kinds.member(settings.kind.name) if known and settings.kind is not None else Kind


def is_auxiliary(settings: TaskSettings) -> bool:
    """Say whether a task is trained on and not evaluated: when it says so, or learns from texts and has no dev table."""
    if settings.evaluate is None:
        return not kind_of(settings).reads_labels and settings.dev is None
    return not settings.evaluate


def input_columns(settings: TaskSettings) -> tuple[str, ...]:
    """Return the text columns of one input: of a ranking task two, the same one twice if there is but one."""
    columns = (settings.text,) if isinstance(settings.text, str) else tuple(settings.text or ())
    if kind_of(settings).head == "words":
        return columns[:1]
    if kind_of(settings).head == "vectors" and len(columns) == 1:
        return columns * 2
    return columns


def own_pair_mode(settings: TaskSettings) -> Literal["single", "bi"] | None:
    """Return the pair mode of a kind that leaves no choice. Raises RecipeError when the recipe chooses all the same."""
    if kind_of(settings).head == "logits":
        return None
    if settings.pair not in (Member(name="cross"), Member(name="bi")):
        raise RecipeError(
            f"'{_name(settings)}' compares its texts' own vectors or tokens: 'pair' takes no options there."
        )
    return "single" if kind_of(settings).head == "words" else "bi"


def check_parts(settings: TaskSettings) -> None:
    """Raise RecipeError for a head, labels or an evaluation that a task cannot have."""
    kind, name = kind_of(settings), _name(settings)
    if kind.head != "logits" and settings.head != Member(name="linear"):
        raise RecipeError(f"'{name}' takes no 'head': it has its own, or none.")
    if kind.head == "words" and settings.pooling != Member(name="cls"):
        raise RecipeError(f"'{name}' takes no 'pooling': it looks at single tokens.")
    if kind.head == "words" and settings.projection is not None:
        raise RecipeError(f"'{name}' takes no 'projection': it looks at single tokens.")
    if kind.head != "logits" and settings.symmetric:
        raise RecipeError(f"'{name}' takes no 'symmetric'; a ranking task has an option of that name.")
    if not kind.reads_labels and settings.resample is not None:
        raise RecipeError(f"'{name}' reads no labels that 'resample' could even out.")
    if not kind.reads_labels and settings.label is not None:
        raise RecipeError(
            f"'{name}' reads no labels; leave out 'label' (to learn from the rows of one label only, "
            "take them from their task: rows_from = [{ task = …, label = … }])."
        )
    if settings.evaluate and settings.dev is None:
        raise RecipeError("evaluate = true needs a dev table, or a share of train for it: 'dev'.")


def check_encoder_fits(recipe: Recipe, settings: TaskSettings) -> None:
    """Raise RecipeError when a task needs another encoder than the recipe's."""
    architecture = recipe.encoder.architecture
    if kind_of(settings).head == "words" and architecture != "bert":
        raise RecipeError(
            f"'{_name(settings)}' predicts words through the word table of our own BERT; "
            f'architecture = "{architecture}" has none that it knows. Use architecture = "bert".'
        )


def check_stage(recipe: Recipe, stage: StageSettings, names: list[str]) -> None:
    """Raise RecipeError where a stage would split a batch whose rows need each other, or train what is not there."""
    for name in names:
        settings = recipe.tasks[name]
        kind, size = kind_of(settings), settings.batch_size or stage.batch_size
        if kind.in_batch and stage.micro_batch is not None and (stage.batch_tokens or stage.micro_batch < size):
            batch = f"batch_tokens = {stage.batch_tokens}" if stage.batch_tokens else f"its batch of {size}"
            raise RecipeError(
                f"micro_batch = {stage.micro_batch} would split {batch} of the task '{name}', and each row's loss there "
                f"is told from the batch's other rows ('{_name(settings)}'): leave out micro_batch, or give the task "
                "a smaller batch_size."
            )
        if kind.in_batch and 1 in (None if stage.batch_tokens else size, settings.sample):
            raise RecipeError(
                f"a batch of one row leaves the task '{name}' nothing to tell it from ('{_name(settings)}' compares the "
                "rows of a batch): its batch_size and its sample are at least 2."
            )
        if kind.head == "vectors" and stage.train == "heads":
            raise RecipeError(f"the task '{name}' has no head, so train = \"heads\" leaves it nothing to train.")


def _name(settings: TaskSettings) -> str:
    return settings.kind.name if settings.kind else ""
