"""A recipe with the options of every member spelt out, so that no later default changes what it says."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from polytask.encoder.base import encoders

from .facts import given_metrics, text_columns
from .settings import Recipe, TaskSettings
from .walk import Chosen, with_members


def spelt_out(recipe: Recipe) -> Recipe:
    """Return a recipe that names every option that a member has a default for, and every task's metrics.

    What is left open (None), because a table or another option settles it, stays open.
    """
    tasks = {name: _with_metrics(settings) for name, settings in recipe.tasks.items()}
    return with_members(recipe.model_copy(update={"tasks": tasks}), _filled)


def _with_metrics(settings: TaskSettings) -> TaskSettings:
    given = given_metrics(settings)
    return settings.model_copy(update={"metrics": given, "judged_by": given[0].name}) if given else settings


def _filled(chosen: Chosen) -> Mapping[str, Any] | None:
    if (
        chosen.place.endswith(".pair")
        and isinstance(chosen.owner, TaskSettings)
        and len(text_columns(chosen.owner)) < 2
    ):
        return None  # one text: nothing meets
    options = {name: option.default for name, option in chosen.registry.options(chosen.name).items()}
    given = {name: value for name, value in options.items() if value not in (None, inspect.Parameter.empty)}
    if isinstance(chosen.owner, Recipe) and chosen.place == "encoder" and chosen.owner.encoder.checkpoint is not None:
        given = {name: given[name] for name in given.keys() - encoders.member(chosen.name).of_new}  # the checkpoint's
    return {**given, **chosen.options}
