"""A recipe with the options of every member spelt out, so that no later default changes what it says."""

from __future__ import annotations

import inspect
from typing import Any

from polytask.aggregators.base import aggregators
from polytask.balance.base import balances
from polytask.data.augment.base import augmentations
from polytask.data.mixing.base import mixings
from polytask.evaluation.aggregates.base import aggregates
from polytask.heads.logits.base import heads
from polytask.heads.pooling.base import poolings
from polytask.metrics.base import metrics
from polytask.registry import Registry
from polytask.regularizers.base import regularizers
from polytask.tasks.kinds.base import kinds

from .members import BI_FEATURES, given_metrics, text_columns
from .settings import Member, Recipe, RegularizerSettings, StageSettings, TaskSettings


def spelt_out(recipe: Recipe) -> Recipe:
    """Return a recipe that names every option that a member has a default for.

    What is left open (None), because a table or another option settles it, stays open.
    """
    tasks = {name: _task(settings) for name, settings in recipe.tasks.items()}
    stages, aggregate = [_stage(stage) for stage in recipe.stages], _filled(aggregates, recipe.aggregate)
    return recipe.model_copy(update={"tasks": tasks, "stages": stages, "aggregate": aggregate})


def _task(settings: TaskSettings) -> TaskSettings:
    assert settings.kind is not None
    takes = kinds.member(settings.kind.name).takes
    changes: dict[str, Any] = {"kind": _filled(kinds, settings.kind)}
    if "pooling" in takes:
        changes["pooling"] = _filled(poolings, settings.pooling)
    if "head" in takes:
        changes |= {"head": _filled(heads, settings.head), "pair": _pair(settings)}
    if given := given_metrics(settings):
        changes |= {"metrics": [_filled(metrics, member) for member in given], "judged_by": given[0].name}
    if settings.augment is not None:
        changes["augment"] = _filled(augmentations, settings.augment)
    return settings.model_copy(update=changes)


def _pair(settings: TaskSettings) -> Member:
    if len(text_columns(settings)) != 2:
        return settings.pair
    given: dict[str, Any] = {"features": BI_FEATURES, "dropout": 0.0} if settings.pair.name == "bi" else {"types": True}
    return Member(name=settings.pair.name, **{**given, **settings.pair.options})


def _stage(stage: StageSettings) -> StageSettings:
    changes = {
        "mixing": _filled(mixings, stage.mixing),
        "balance": _filled(balances, stage.balance),
        "aggregator": _filled(aggregators, stage.aggregator),
        "regularizers": [_penalty(settings) for settings in stage.regularizers],
    }
    return stage.model_copy(update=changes)


def _penalty(settings: RegularizerSettings) -> RegularizerSettings:
    filled = _filled(regularizers, Member(name=settings.name, **settings.options))
    return RegularizerSettings(name=settings.name, weight=settings.weight, **filled.options)


def _filled(registry: Registry[Any], member: Member) -> Member:
    options = {name: option.default for name, option in registry.options(member.name).items()}
    given = {name: value for name, value in options.items() if value not in (None, inspect.Parameter.empty)}
    return Member(name=member.name, **{**given, **member.options})
