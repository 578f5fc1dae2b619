"""Settings -> the records of tasks, and the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

from polytask.encoder.base import Encoder
from polytask.errors import RecipeError
from polytask.heads.logits.base import heads
from polytask.heads.modes.base import PairMode, pair_modes
from polytask.heads.orders import Orders, as_given, exchanged, neighbours
from polytask.heads.pooling.base import Pooling, poolings
from polytask.heads.projection import Projection
from polytask.heads.task import TaskHead
from polytask.heads.thresholds import Thresholds
from polytask.metrics.base import metrics
from polytask.model import Model
from polytask.recipe.facts import (
    consistency,
    encoder_of,
    given_metrics,
    input_columns,
    is_auxiliary,
    new_kind,
    pair_mode,
)
from polytask.recipe.settings import (
    ProjectionSettings,
    Recipe,
    TaskSettings,
)
from polytask.runtime.keys import reseed
from polytask.tasks.kinds.base import kinds
from polytask.tasks.task import Task


def new_task(name: str, settings: TaskSettings, labels: Mapping[str, str], max_length: int) -> Task:
    """Return the record of a task."""
    mode = pair_mode(settings)
    chosen = _mode(settings, mode)
    return Task(
        name=name,
        kind=new_kind(settings, labels),
        text=input_columns(settings),
        label=tuple(settings.label) if isinstance(settings.label, list) else settings.label or "",
        id=settings.id,
        max_length=max_length,
        pair=mode,
        token_types=chosen is None or chosen.token_types,
        consistency=consistency(settings),
        auxiliary=is_auxiliary(settings),
        metrics={one.name: metrics.create(one.name, **one.options) for one in given_metrics(settings)},
    )


def new_model(encoder: Encoder, tasks: Mapping[str, Task], recipe: Recipe) -> Model:
    """Return the model: its encoders, all as the given one, and each task's head, drawn from the recipe's seed."""
    users = {name: encoder_of(name, recipe) for name in tasks}
    first, *others = dict.fromkeys(users.values())
    encoders = {first: encoder} | {name: copy.deepcopy(encoder) for name in others}
    made: dict[str, TaskHead] = {}
    for name, task in tasks.items():
        reseed(recipe.seed, "head", name)
        made[name] = new_head(task, recipe.tasks[name], encoders[users[name]])
    return Model(encoders, made, users)


def new_head(task: Task, settings: TaskSettings, encoder: Encoder) -> TaskHead:
    """Return what belongs to a task on an encoder, freshly drawn."""
    kind = task.kind
    if "pooling" not in kind.takes:
        return _own_head(task, encoder, None, None)
    assert settings.pooling is not None  # see ``with_poolings``
    pooling = poolings.create(settings.pooling.name, encoder.width, **settings.pooling.options)
    projection = None if settings.projection is None else _projection(settings.projection, pooling.width)
    if "head" not in kind.takes:
        return _own_head(task, encoder, pooling, projection)
    width = pooling.width if projection is None else projection.width
    chosen = _mode(settings, task.pair)
    merge = None if chosen is None else chosen.merge(width)
    width = width if merge is None else merge.width
    head = heads.create(settings.head.name, width, kind.head_outputs, **settings.head.options)
    thresholds = Thresholds(kind.outputs) if kind.head_outputs < kind.outputs else None
    rate = 0.0 if chosen is None else chosen.dropout
    return TaskHead(
        pooling, head, merge, projection=projection, dropout=rate, thresholds=thresholds, orders=_orders(task)
    )


def _own_head(task: Task, encoder: Encoder, pooling: Pooling | None, projection: Projection | None) -> TaskHead:
    try:
        head = task.kind.own_head(encoder, pooling, projection)
    except RecipeError as error:
        raise RecipeError(f"tasks.{task.name}: {error}") from error
    if head is None:
        raise TypeError(f"{type(task.kind).__name__} takes no head and brings none")
    return head


def adopt_heads(model: Model, tasks: Mapping[str, Task], folder: Path, note: Callable[[str], None]) -> None:
    """Fill the heads that a checkpoint may hold with its own, where it has them."""
    for name, task in tasks.items():
        if task.kind.adopts:
            whose = (
                "is the checkpoint's own"
                if task.kind.adopt(model.head(name), folder)
                else "is new: the checkpoint has none"
            )
            note(f"Task '{name}': the masked-language-model head {whose}.")


def _orders(task: Task) -> Orders:
    if task.consistency is None:
        return as_given
    return exchanged if task.pair == "bi" else neighbours


def _mode(settings: TaskSettings, mode: str) -> PairMode | None:
    """Return what a pair task chooses for how its texts meet; None for single texts, and kinds that leave no choice."""
    if mode == "single" or "pair" not in kinds.member(str(settings.kind and settings.kind.name)).takes:
        return None
    return pair_modes.create(settings.pair.name, **settings.pair.options)


def _projection(settings: ProjectionSettings, inputs: int) -> Projection:
    return Projection(inputs, settings.width or inputs, **settings.model_dump(exclude={"width"}))
