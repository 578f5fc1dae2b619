"""Settings -> the records of tasks, and the model."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import nn

from polytask.encoder.base import Encoder
from polytask.errors import RecipeError
from polytask.heads.logits.base import heads
from polytask.heads.orders import Orders, as_given, exchanged, neighbours
from polytask.heads.task import TaskHead
from polytask.heads.thresholds import Thresholds
from polytask.model import Model
from polytask.recipe.members import (
    BI_FEATURES,
    consistency,
    encoder_of,
    new_kind,
    new_merge,
    new_pooling,
    new_projection,
    pair_mode,
)
from polytask.recipe.objectives import input_columns, is_auxiliary
from polytask.recipe.settings import (
    Recipe,
    TaskSettings,
)
from polytask.runtime.keys import reseed
from polytask.tasks.task import Task

from .fits import check_layers
from .language import new_token_head


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
    if task.kind.head == "words":
        return new_token_head(task.name, encoder)
    pooling = new_pooling(settings, encoder.width)
    check_layers(task.name, pooling, encoder)
    if pooling.uses_pooler and not encoder.has_pooler:
        raise RecipeError(
            f"tasks.{task.name}.pooling: this checkpoint has no pooler, which '{settings.pooling.name}' reads; "
            "use 'first', 'mean' or another."
        )
    projection = None if settings.projection is None else new_projection(settings.projection, pooling.width)
    width = pooling.width if projection is None else projection.width
    if task.kind.head == "vectors":
        return TaskHead(pooling, nn.Identity(), new_merge(["u", "v"], width), projection=projection)
    _, options = pair_mode(settings)
    merge = new_merge(options.get("features", BI_FEATURES), width) if task.pair == "bi" else None
    width = width if merge is None else merge.width
    kind = task.kind
    head = heads.create(settings.head.name, width, kind.head_outputs, **settings.head.options)
    thresholds = Thresholds(kind.outputs) if kind.head_outputs < kind.outputs else None
    rate = options.get("dropout", 0.0)
    return TaskHead(
        pooling, head, merge, projection=projection, dropout=rate, thresholds=thresholds, orders=_orders(task)
    )


def _orders(task: Task) -> Orders:
    if task.consistency is None:
        return as_given
    return exchanged if task.pair == "bi" else neighbours
