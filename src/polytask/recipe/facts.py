"""What follows from a recipe's settings, before anything is read or built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from polytask.data.tables.layout import Layout
from polytask.encoder.base import Architecture, encoders
from polytask.errors import RecipeError, listed
from polytask.model import SHARED
from polytask.tasks.kinds.base import Kind, PairMode, kinds

from .settings import EncoderSettings, Member, Recipe, StageSettings, Symmetric, TaskSettings


def kind_of(settings: TaskSettings) -> type[Kind]:
    """Return the class of a task's kind; for a kind that is missing or misspelt, what all kinds share."""
    known = settings.kind is not None and settings.kind.name in kinds.names()
    return kinds.member(settings.kind.name) if known and settings.kind is not None else Kind


def new_kind(settings: TaskSettings, labels: Mapping[str, str]) -> Kind:
    """Return a task's kind with the given labels."""
    if settings.kind is None:
        raise RecipeError(f"is missing; there are {listed(kinds.names())} (or give a 'preset').")
    return kinds.create(settings.kind.name, labels, **settings.kind.options)


def given_metrics(settings: TaskSettings) -> list[Member]:
    """Return what a task is scored by, the metric that judges it first; by default its kind's."""
    given = [Member(name=name) for name in kind_of(settings).metrics] if settings.metrics is None else settings.metrics
    if settings.judged_by is None:
        return given
    judges = [member for member in given if member.name == settings.judged_by] or [Member(name=settings.judged_by)]
    return judges + [member for member in given if member.name != settings.judged_by]


def given_labels(settings: TaskSettings) -> dict[str, str]:
    """Return the labels that a recipe gives, spelling to name; none when they are to be read off train."""
    labels = settings.labels or (settings.label if isinstance(settings.label, list) else {})
    return dict(labels) if isinstance(labels, dict) else {label: label for label in labels}


def architecture_of(settings: EncoderSettings) -> Architecture:
    """Return the architecture that a recipe's encoder has, with its options."""
    return encoders.create(settings.architecture, **settings.options)


def encoder_of(task: str, recipe: Recipe) -> str:
    """Return the name of a task's encoder: "shared", or the task's own name."""
    return SHARED if recipe.tasks[task].encoder == "shared" else task


def text_columns(settings: TaskSettings) -> tuple[str, ...]:
    """Return the one or two text columns."""
    return (settings.text,) if isinstance(settings.text, str) else tuple(settings.text or ())


def with_poolings(recipe: Recipe, hint: str | None) -> Recipe:
    """Return a recipe whose tasks all name their pooling: where they do not, the encoder's own, else "cls"."""
    pooling = Member(name=hint or "cls")
    tasks = {
        name: task.model_copy(update={"pooling": pooling})
        if task.pooling is None and "pooling" in kind_of(task).takes
        else task
        for name, task in recipe.tasks.items()
    }
    return recipe.model_copy(update={"tasks": tasks})


def label_columns(settings: TaskSettings) -> tuple[str, ...]:
    """Return the columns that a task's labels stand in."""
    return (settings.label,) if isinstance(settings.label, str) else tuple(settings.label or ())


def input_columns(settings: TaskSettings) -> tuple[str, ...]:
    """Return the text columns of one input, as the task's kind reads them."""
    return kind_of(settings).columns(text_columns(settings))


def layout_of(settings: TaskSettings) -> Layout:
    """Return how a task's tables are laid out, as far as its recipe says so. Raises TableError for what cannot be."""
    return Layout(**layout_options(settings))


def layout_options(settings: TaskSettings) -> dict[str, Any]:
    """Return the options of a task's layout, as they stand in its recipe."""
    given = {field.name: getattr(settings, field.name) for field in fields(Layout)}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def is_auxiliary(settings: TaskSettings) -> bool:
    """Say whether a task is trained on and not evaluated: when it says so, or learns from texts and has no dev table."""
    if settings.evaluate is None:
        return "label" not in kind_of(settings).takes and settings.dev is None
    return not settings.evaluate


def shares_encoder(recipe: Recipe, stage: StageSettings) -> bool:
    """Say whether two tasks of a stage have one encoder."""
    return sum(recipe.tasks[name].encoder == "shared" for name in stage_tasks(recipe, stage)) > 1


def pair_mode(settings: TaskSettings) -> PairMode:
    """Return how a task's texts meet: as its kind has it, or as a pair task chooses."""
    modes = kind_of(settings).pairs
    if len(modes) == 1:
        return modes[0]
    if len(text_columns(settings)) == 1:
        return "single"
    return "bi" if settings.pair.name == "bi" else "cross"


def consistency(settings: TaskSettings) -> float | None:
    """Return the weight of the consistency term of a symmetric pair task; None where the order counts."""
    if settings.symmetric is False:
        return None
    return Symmetric().consistency if settings.symmetric is True else settings.symmetric.consistency


def stage_tasks(recipe: Recipe, stage: StageSettings) -> list[str]:
    """Return the tasks of a stage, in the recipe's order."""
    return [name for name in recipe.tasks if stage.tasks is None or name in stage.tasks]


def with_columns(recipe: Recipe) -> Recipe:
    """Return a recipe whose borrowing tasks name their columns too: those of the first task that they borrow from."""
    tasks = {name: _with_columns(settings, recipe) for name, settings in recipe.tasks.items()}
    return recipe.model_copy(update={"tasks": tasks})


def _with_columns(settings: TaskSettings, recipe: Recipe) -> TaskSettings:
    if not settings.rows_from or settings.rows_from[0].task not in recipe.tasks:
        return settings
    source, kind = recipe.tasks[settings.rows_from[0].task], kind_of(settings)
    label = source.label if "label" in kind.takes and settings.label is None else settings.label
    changes = {"text": source.text if settings.text is None else settings.text, "label": label}
    return settings.model_copy(update=changes)
