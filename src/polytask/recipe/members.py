"""Settings -> members of the open rooms: kinds, heads, regularizers and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from polytask.aggregators.base import Aggregator, aggregators
from polytask.balance.base import LossBalance, balances
from polytask.data.mixing.base import Mixing, mixings
from polytask.errors import RecipeError, listed, nearest
from polytask.evaluation.aggregates.base import Aggregate, aggregates
from polytask.heads.pairs.base import Merge, pair_features
from polytask.heads.pooling.base import Pooling, poolings
from polytask.heads.projection import Projection
from polytask.metrics.base import Metric, metrics
from polytask.model import SHARED
from polytask.regularizers.base import Penalty, regularizers
from polytask.tasks.kinds.base import Kind, kinds

from .settings import Member, ProjectionSettings, Recipe, RegularizerSettings, StageSettings, Symmetric, TaskSettings

_PAIR_OPTIONS = {"cross": ("types",), "bi": ("features", "dropout")}

BI_FEATURES = ["u", "v", "abs_difference"]


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


def new_metrics(settings: TaskSettings) -> dict[str, Metric]:
    """Return a task's metrics by name, the one that judges it first."""
    return {member.name: metrics.create(member.name, **member.options) for member in given_metrics(settings)}


def check_metric(settings: TaskSettings, member: Member) -> None:
    """Raise RecipeError for a metric that a task's kind cannot give, with those that it can."""
    metrics.create(member.name, **member.options)
    kind = kind_of(settings)
    if settings.kind is not None and not metrics.member(member.name).fits(kind.gives):
        able = [name for name in metrics.names() if metrics.member(name).fits(kind.gives)]
        raise RecipeError(f"the kind '{settings.kind.name}' has no '{member.name}'; it has {listed(able)}.")


def given_labels(settings: TaskSettings) -> dict[str, str]:
    """Return the labels that a recipe gives, spelling to name; none when they are to be read off train."""
    labels = settings.labels or {}
    return dict(labels) if isinstance(labels, dict) else {label: label for label in labels}


def pair_mode(settings: TaskSettings) -> tuple[Literal["single", "cross", "bi"], Mapping[str, Any]]:
    """Return how a task's texts meet, and the options of that mode."""
    modes = kind_of(settings).pairs
    if len(modes) == 1:
        if settings.pair not in (Member(name="cross"), Member(name="bi")):
            name = "" if settings.kind is None else settings.kind.name
            raise RecipeError(f"'{name}' compares its texts' own vectors or tokens: 'pair' takes no options there.")
        return modes[0], {}
    name, options = settings.pair.name, settings.pair.options
    if name not in _PAIR_OPTIONS:
        raise RecipeError(f"'{name}' is not a pair mode.{nearest(name, _PAIR_OPTIONS)} There are 'cross' and 'bi'.")
    for key in options:
        if key not in _PAIR_OPTIONS[name]:
            raise RecipeError(f"'{name}' takes no option '{key}'; it takes {listed(_PAIR_OPTIONS[name])}.")
    if not isinstance(options.get("types", True), bool):
        raise RecipeError(f"option 'types' of 'cross' is {options['types']!r}; it is true or false.")
    rate = options.get("dropout", 0.0)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise RecipeError(f"option 'dropout' of 'bi' is {rate!r}; it is a number of at least 0 and below 1.")
    if name == "bi":
        new_merge(options.get("features", BI_FEATURES), 1)
    if isinstance(settings.text, list) and len(settings.text) == 2:
        return ("cross" if name == "cross" else "bi"), options
    if name == "bi" or options:
        raise RecipeError("a task with one text column has no pair; name two columns in 'text'.")
    return "single", options


def consistency(settings: TaskSettings) -> float | None:
    """Return the weight of the consistency term of a symmetric pair task; None where the order counts."""
    if settings.symmetric is False:
        return None
    if len(text_columns(settings)) != 2:
        raise RecipeError("a task with one text column has no order; name two columns in 'text'.")
    return Symmetric().consistency if settings.symmetric is True else settings.symmetric.consistency


def encoder_of(task: str, recipe: Recipe) -> str:
    """Return the name of a task's encoder: "shared", or the task's own name."""
    if recipe.tasks[task].encoder == "shared":
        return SHARED
    if task == "shared":
        raise RecipeError("an encoder of its own would be called 'shared', as the common one is; rename the task.")
    return task


def text_columns(settings: TaskSettings) -> tuple[str, ...]:
    """Return the one or two text columns."""
    return (settings.text,) if isinstance(settings.text, str) else tuple(settings.text or ())


def new_pooling(settings: TaskSettings, width: int) -> Pooling:
    """Return a task's pooling."""
    return poolings.create(settings.pooling.name, width, **settings.pooling.options)


def new_projection(settings: ProjectionSettings, inputs: int) -> Projection:
    """Return the projection of vectors of ``inputs`` numbers."""
    options = settings.model_dump(exclude={"width"})
    return Projection(inputs, settings.width or inputs, **options)


def new_merge(features: Any, width: int) -> Merge:
    """Return the pair features that a recipe lists, each a name or { name = …, option = … }."""
    if not isinstance(features, list) or not features:
        raise RecipeError(f"'features' is {features!r}; it is a list of {listed(pair_features.names())}.")
    for feature in features:
        if not isinstance(feature, str) and not (isinstance(feature, dict) and isinstance(feature.get("name"), str)):
            raise RecipeError(f"'features' has {feature!r}; a pair feature is a name, or {{ name = …, option = … }}.")
    members = [Member.model_validate({"name": f} if isinstance(f, str) else f) for f in features]
    return Merge([pair_features.create(member.name, width, **member.options) for member in members])


def input_columns(settings: TaskSettings) -> tuple[str, ...]:
    """Return the text columns of one input, as the task's kind reads them."""
    return kind_of(settings).columns(text_columns(settings))


def is_auxiliary(settings: TaskSettings) -> bool:
    """Say whether a task is trained on and not evaluated: when it says so, or learns from texts and has no dev table."""
    if settings.evaluate is None:
        return "label" not in kind_of(settings).takes and settings.dev is None
    return not settings.evaluate


def new_aggregate(recipe: Recipe) -> Aggregate:
    """Return what makes one number of the tasks' scores."""
    return aggregates.create(recipe.aggregate.name, **recipe.aggregate.options)


def stage_tasks(recipe: Recipe, stage: StageSettings) -> list[str]:
    """Return the tasks of a stage."""
    unknown = [name for name in stage.tasks or () if name not in recipe.tasks]
    if unknown:
        near = nearest(unknown[0], recipe.tasks)
        raise RecipeError(f"there is no task {listed(unknown)}.{near} There are {listed(recipe.tasks)}.")
    if stage.tasks == []:
        raise RecipeError("a stage needs at least one task.")
    return [name for name in recipe.tasks if stage.tasks is None or name in stage.tasks]


def new_mixing(stage: StageSettings) -> Mixing:
    """Return a stage's mixing policy."""
    mixing = mixings.create(stage.mixing.name, **stage.mixing.options)
    if mixing.stretches and stage.batch_tokens is not None:
        raise RecipeError(f"'{stage.mixing.name}' stretches batches by rows; 'batch_tokens' would cut them by tokens.")
    return mixing


def new_balance(recipe: Recipe, stage: StageSettings, epoch_steps: int) -> LossBalance:
    """Return a stage's loss balance, which knows the factors that the recipe gives its tasks.

    One that weighs a step's tasks against each other is refused where steps hold one task only.
    """
    given_T = torch.tensor([recipe.tasks[name].weight for name in stage_tasks(recipe, stage)])
    balance = balances.create(stage.balance.name, given_T, epoch_steps, **stage.balance.options)
    if balance.uses_losses and splits_tasks(recipe, stage):
        raise RecipeError(f"'{stage.balance.name}' weighs the losses of one step against each other, {one_task(stage)}")
    return balance


def new_aggregator(recipe: Recipe, stage: StageSettings) -> Aggregator:
    """Return a stage's aggregator. Surgery on steps that hold one task only is refused: there is nothing to combine."""
    aggregator = aggregators.create(stage.aggregator.name, **stage.aggregator.options)
    if aggregator.constant(2) is None and splits_tasks(recipe, stage):
        raise RecipeError(
            f"'{stage.aggregator.name}' combines the gradients of several tasks in one step, {one_task(stage)}"
        )
    return aggregator


def splits_tasks(recipe: Recipe, stage: StageSettings) -> bool:
    return len(stage_tasks(recipe, stage)) > 1 and not new_mixing(stage).joins_tasks


def shares_encoder(recipe: Recipe, stage: StageSettings) -> bool:
    """Say whether two tasks of a stage have one encoder."""
    return sum(recipe.tasks[name].encoder == "shared" for name in stage_tasks(recipe, stage)) > 1


def one_task(stage: StageSettings) -> str:
    return f"and the mixing '{stage.mixing.name}' puts one task in a step. Use mixing = \"joint\"."


def new_penalties(recipe: Recipe, stage: StageSettings) -> tuple[Penalty, ...]:
    """Return a stage's regularizers with their weights for each task."""
    return tuple(new_penalty(recipe, stage, settings) for settings in stage.regularizers)


def new_penalty(recipe: Recipe, stage: StageSettings, settings: RegularizerSettings) -> Penalty:
    """Return a regularizer of a stage with its weights for each task."""
    tasks, weight = stage_tasks(recipe, stage), settings.weight
    weights = weight if isinstance(weight, dict) else dict.fromkeys(tasks, weight)
    for name in weights:
        if name not in tasks:
            near = nearest(name, tasks)
            raise RecipeError(f"'{settings.name}' has a weight for '{name}', which is no task of this stage.{near}")
    return Penalty(regularizers.create(settings.name, **settings.options), weights)
