"""Tables of a recipe -> typed settings, and a sentence for everything that is wrong with them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import ValidationError

from polytask.errors import RecipeError, nearest, one_line
from polytask.sentences import unlike

from .settings import (
    AverageSettings,
    EarlyStopping,
    EncoderSettings,
    Last,
    OptimizerSettings,
    PhraseSettings,
    ProjectionSettings,
    Recipe,
    ResampleSettings,
    RowsFrom,
    ScheduleSettings,
    Settings,
    StageSettings,
    Symmetric,
    TaskSettings,
)

Problem: TypeAlias = tuple[str, str]
"""Where a recipe is wrong (``tasks.sst.head.layers``), and how, in a sentence."""

_MEANT = dict.fromkeys(("upsample", "oversample", "downsample", "undersample"), "resample")
"""Words for a key that spelling alone would lead elsewhere."""

_MOST = 50

_TRIES = 4


def parse_recipe(tables: Mapping[str, Any], source: str) -> Recipe:
    """Return the recipe. Raises RecipeError that lists everything wrong with it at once."""
    recipe, problems = read_recipe(tables)
    if recipe is None or problems:
        raise invalid(source, [f"{place}: {sentence}" for place, sentence in problems])
    return recipe


def read_recipe(tables: Mapping[str, Any]) -> tuple[Recipe | None, list[Problem]]:
    """Return the recipe and everything wrong with it, by place.

    What is wrong is left out of the recipe, so that the rest of it can be checked, too; it is None where nothing is left.
    """
    problems: dict[str, str] = {}
    kept: Any = copy.deepcopy(dict(tables))
    for _ in range(_TRIES):
        try:
            return Recipe.model_validate(kept), list(problems.items())
        except ValidationError as error:
            found = error.errors()
        # Names from the first look: leaving things out may make others seem to be missing.
        problems = problems or _told(found, kept)
        for place in [_wrong(problem, kept) for problem in found]:
            _leave_out(kept, place)
    return None, list(problems.items())


def invalid(source: str, problems: Sequence[str]) -> RecipeError:
    """Return the error for everything that is wrong with a recipe."""
    lines = [f"  {one_line(problem)}" for problem in problems[:_MOST]]
    if len(problems) > _MOST:
        lines.append(f"  … and {len(problems) - _MOST} more")
    return RecipeError("\n".join([f"{source} is not a valid recipe:", *lines]))


def _told(found: Sequence[Mapping[str, Any]], tables: Any) -> dict[str, str]:
    """Return a sentence for each place that is wrong, one for all the alternatives that it could have been."""
    groups: dict[tuple[str | int, ...], list[Mapping[str, Any]]] = {}
    for problem in found:
        groups.setdefault(_place(problem, tables), []).append(problem)
    return {
        ".".join(map(str, place)) or "the recipe": _sentence(place, problems)
        for place, problems in groups.items()
        # Of { last = 0 }, that it is no text is not worth telling beside what is wrong inside.
        if not any(len(other) > len(place) and other[: len(place)] == place for other in groups)
    }


def _place(problem: Mapping[str, Any], tables: Any) -> tuple[str | int, ...]:
    """Return where a problem lies in the tables: pydantic's location without the names of its alternatives."""
    place: list[str | int] = []
    for part in problem["loc"]:
        if _holds(tables, part):
            place.append(part)
            tables = tables[part]
    if problem["type"] == "missing":
        place.append(problem["loc"][-1])
    return tuple(place)


def _holds(tables: Any, part: str | int) -> bool:
    return part in tables if isinstance(tables, dict) else isinstance(tables, list) and part in range(len(tables))


def _sentence(place: Sequence[str | int], problems: Sequence[Mapping[str, Any]]) -> str:
    if problems[0]["type"] == "extra_forbidden":
        key = str(place[-1])
        return f"there is no such key.{nearest(_MEANT.get(key, key), _fields_at(place[:-1]))}"
    if problems[0]["type"] == "missing":
        return "is missing."
    return unlike(problems[0]["input"], problems)


def _wrong(problem: Mapping[str, Any], tables: Any) -> tuple[str | int, ...]:
    """Return the place that has to go for a problem to go: of a table that lacks something, the table."""
    place = _place(problem, tables)
    return place[:-1] or place if problem["type"] == "missing" else place


def _leave_out(tables: dict[str, Any], place: Sequence[str | int]) -> None:
    """Take a place out of the tables. A stage becomes an empty one: the others keep their numbers."""
    if not place:
        return
    if tuple(place) == ("encoder",):
        tables["encoder"] = {}
    elif len(place) == 2 and place[0] == "stages":
        tables["stages"][place[1]] = {}
    elif (holder := _at(tables, place[:-1])) is not None:
        if isinstance(holder, dict):
            holder.pop(place[-1], None)
        else:
            _leave_out(tables, place[:-1])


def _at(tables: Any, place: Sequence[str | int]) -> Any:
    for part in place:
        if not _holds(tables, part):
            return None
        tables = tables[part]
    return tables


def _fields_at(location: Sequence[str | int]) -> list[str]:
    tables: dict[str, type[Settings]] = {"encoder": EncoderSettings, "tasks": TaskSettings, "stages": StageSettings}
    below: dict[str, type[Settings]] = {
        "schedule": ScheduleSettings,
        "optimizer": OptimizerSettings,
        "early_stopping": EarlyStopping,
        "average": AverageSettings,
        "train": Last,
        "projection": ProjectionSettings,
        "resample": ResampleSettings,
        "phrases": PhraseSettings,
        "symmetric": Symmetric,
        "rows_from": RowsFrom,
    }
    names = [str(part) for part in location]
    inner = names[2:]  # a task may be called "train", too
    candidates = [below.get(name) for name in reversed(inner)] + [tables.get(name) for name in names[:1]]
    table: type[Settings] = next((found for found in candidates if found is not None), Recipe)
    return list(table.model_fields)
