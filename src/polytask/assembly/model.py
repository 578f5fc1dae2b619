"""Settings -> the records of tasks, and the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

from polytask.encoder.base import Encoder
from polytask.errors import RecipeError
from polytask.heads.logits.base import heads
from polytask.heads.orders import Orders, as_given, exchanged, neighbours
from polytask.heads.pooling.base import Pooling
from polytask.heads.projection import Projection
from polytask.heads.task import TaskHead
from polytask.heads.thresholds import Thresholds
from polytask.model import Model
from polytask.recipe.members import (
    BI_FEATURES,
    consistency,
    encoder_of,
    input_columns,
    is_auxiliary,
    new_kind,
    new_merge,
    new_metrics,
    new_pooling,
    new_projection,
    pair_mode,
)
from polytask.recipe.settings import (
    Recipe,
    TaskSettings,
)
from polytask.runtime.keys import reseed
from polytask.tasks.task import Task

from .fits import check_layers


def new_task(name: str, settings: TaskSettings, labels: Mapping[str, str], max_length: int) -> Task:
    """Return the record of a task."""
    mode, options = pair_mode(settings)
    return Task(
        name=name,
        kind=new_kind(settings, labels),
        text=input_columns(settings),
        label=settings.label or "",
        id=settings.id,
        max_length=max_length,
        pair=mode,
        token_types=bool(options.get("types", True)),
        consistency=consistency(settings),
        auxiliary=is_auxiliary(settings),
        metrics=new_metrics(settings),
    )


def new_model(encoder: Encoder, tasks: Mapping[str, Task], recipe: Recipe) -> Model:
    """Return the model: its encoders, all as the given one, and each task's head, drawn from the recipe's seed."""
    users = {name: encoder_of(name, recipe) for name in tasks}
    first, *others = dict.fromkeys(users.values())
    encoders = {first: encoder} | {name: copy.deepcopy(encoder) for name in others}
    made: dict[str, TaskHead] = {}
    for name, task in tasks.items():
        reseed(recipe.seed, "head", name)
        made[name] = _new_head(task, recipe.tasks[name], encoders[users[name]])
    return Model(encoders, made, users)


def _new_head(task: Task, settings: TaskSettings, encoder: Encoder) -> TaskHead:
    kind = task.kind
    if "pooling" not in kind.takes:
        return _own_head(task, encoder, None, None)
    pooling = new_pooling(settings, encoder.width)
    check_layers(task.name, pooling, encoder)
    if pooling.uses_pooler and not encoder.has_pooler:
        raise RecipeError(
            f"tasks.{task.name}.pooling: this checkpoint has no pooler, which '{settings.pooling.name}' reads; "
            "use 'first', 'mean' or another."
        )
    projection = None if settings.projection is None else new_projection(settings.projection, pooling.width)
    if "head" not in kind.takes:
        return _own_head(task, encoder, pooling, projection)
    width = pooling.width if projection is None else projection.width
    _, options = pair_mode(settings)
    merge = new_merge(options.get("features", BI_FEATURES), width) if task.pair == "bi" else None
    width = width if merge is None else merge.width
    head = heads.create(settings.head.name, width, kind.head_outputs, **settings.head.options)
    thresholds = Thresholds(kind.outputs) if kind.head_outputs < kind.outputs else None
    rate = options.get("dropout", 0.0)
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
