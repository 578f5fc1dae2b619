"""Every member that a recipe chooses, asked once whether it takes its options: they are the member's own business."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from polytask.errors import OptionError, RecipeError, shown
from polytask.heads.logits.base import heads
from polytask.heads.projection import Projection
from polytask.recipe.facts import given_labels
from polytask.recipe.reading import Problem
from polytask.recipe.settings import Recipe, TaskSettings
from polytask.recipe.walk import Chosen, members_of
from polytask.tasks.kinds.base import kinds

Made = dict[str, Any]
"""Members by their place in the recipe, for rules that ask them something. Modules are made where they take no memory."""

MOST_PARAMETERS = 1_000_000_000


def try_members(recipe: Recipe) -> tuple[Made, list[Problem]]:
    """Return the members that a recipe chooses, and what those say that do not take their options."""
    made: Made = {}
    wrong: list[Problem] = []
    for chosen in members_of(recipe):
        try:
            made[chosen.place] = _tried(chosen)
        except OptionError as error:
            # The encoder's table has keys beside its architecture's options: ``encoder`` tells of those that are neither.
            refused = error.sentences if chosen.place != "encoder" else _known(chosen, error.sentences)
            wrong += [(f"{chosen.place}.{option}", sentence) for option, sentence in refused.items()]
            if chosen.place == "encoder":
                # What the rest of the recipe asks of it is told beside what is wrong with it.
                with suppress(RecipeError):
                    made[chosen.place] = _tried(replace(chosen, options=_without(chosen.options, error.sentences)))
        except RecipeError as error:
            wrong.append((chosen.place, str(error)))
    for name, task in recipe.tasks.items():
        wrong += [(f"tasks.{name}.projection", sentence) for sentence in _projection(task)]
    return made, wrong


def _without(options: Mapping[str, Any], refused: Mapping[str, str]) -> dict[str, Any]:
    return {option: value for option, value in options.items() if option not in refused}


def _known(chosen: Chosen, sentences: dict[str, str]) -> dict[str, str]:
    known = chosen.registry.options(chosen.name)
    return {
        option: sentence.removeprefix(f"option '{option}' of '{chosen.name}' ")
        for option, sentence in sentences.items()
        if option in known
    }


def _tried(chosen: Chosen) -> Any:
    registry = chosen.registry
    if not issubclass(registry.member(chosen.name), nn.Module):
        labels = (given_labels(chosen.owner),) if registry is kinds and isinstance(chosen.owner, TaskSettings) else ()
        return registry.tried(chosen.name, chosen.options, *labels)
    failed = f"'{chosen.name}' of the {registry.room} cannot be built with {shown(dict(chosen.options))}."
    return _small(lambda: registry.tried(chosen.name, chosen.options, *_widths(chosen)), "a head", failed)


def _widths(chosen: Chosen) -> tuple[int, ...]:
    """Return what a head is given: the width is the encoder's, not known yet, unless a projection says how wide it is."""
    task = chosen.owner
    if chosen.registry is not heads or not isinstance(task, TaskSettings) or task.projection is None:
        return ()
    learned = heads.member(chosen.name).features is None
    return (task.projection.width or 1 if learned else 1, 1)


def _projection(settings: TaskSettings) -> list[str]:
    if settings.projection is None:
        return []
    options = settings.projection.model_dump(exclude={"width"})
    failed = f"cannot be built with {shown(settings.projection.model_dump(exclude_none=True))}."
    try:
        _small(lambda: Projection(1, settings.projection.width or 1, **options), "a projection", failed)
    except RecipeError as error:
        return [str(error)]
    return []


def _small(build: Any, what: str, failed: str) -> nn.Module:
    """Build a module where it takes no memory: sizes that no machine holds are the person's slip."""
    try:
        with torch.device("meta"):
            module: nn.Module = build()
    except (RuntimeError, OverflowError, TypeError) as error:  # what torch says of numbers that it cannot count to
        raise RecipeError(failed) from error
    numbers = sum(parameter.numel() for parameter in module.parameters())
    if numbers > MOST_PARAMETERS:
        raise RecipeError(f"has {numbers:,} parameters; {what} has at most {MOST_PARAMETERS:,}.")
    return module
