"""Tables of a recipe -> typed settings, and a sentence for everything that is wrong with them."""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from polytask.errors import RecipeError, nearest, one_line
from polytask.sentences import unlike

from .settings import Recipe

Problem: TypeAlias = tuple[str, str]
"""Where a recipe is wrong (``tasks.sst.head.layers``), and how, in a sentence."""

_MEANT = dict.fromkeys(("upsample", "oversample", "downsample", "undersample"), "resample")
"""Words for a key that spelling alone would lead elsewhere."""

_MOST = 50

_TRIES = 4


@dataclass(frozen=True)
class Loaded:
    """A recipe, and the folder that its relative paths start from."""

    recipe: Recipe
    base: Path


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
    return unlike(problems[0]["input"], problems, _nameable(Recipe))


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
    elif tuple(place) == ("tasks",):
        # There is no recipe without a task: some of the names that stages use stand in, and nothing is told of them.
        tables["tasks"] = {name: {"dev": 0.5} for name in _named_by_stages(tables) or ["task"]}
    elif len(place) == 2 and place[0] == "stages":
        tables["stages"][place[1]] = {}
    elif (holder := _at(tables, place[:-1])) is not None:
        if isinstance(holder, dict):
            holder.pop(place[-1], None)
        else:
            _leave_out(tables, place[:-1])


def _named_by_stages(tables: Mapping[str, Any]) -> list[str]:
    stages = tables.get("stages")
    lists = [stage.get("tasks") for stage in stages if isinstance(stage, dict)] if isinstance(stages, list) else []
    return [name for names in lists if isinstance(names, list) for name in names if isinstance(name, str)]


def _at(tables: Any, place: Sequence[str | int]) -> Any:
    for part in place:
        if not _holds(tables, part):
            return None
        tables = tables[part]
    return tables


def _fields_at(place: Sequence[str | int]) -> list[str]:
    """Return the keys of the table at a place of a recipe, or of the nearest table above it."""
    table: type[BaseModel] = Recipe
    for part in map(str, place):
        if part in table.model_fields:
            table = next(tables_within(table.model_fields[part].annotation), table)
    return list(table.model_fields)


def tables_within(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the kinds of table that a setting's type allows, whatever it is wrapped in."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, list, dict, tuple, Annotated):
        for part in get_args(annotation):
            yield from tables_within(part)


@cache
def _nameable(table: type[BaseModel]) -> frozenset[str]:
    """Return the classes of the tables below one for which a name alone may stand."""
    below = [inner for field in table.model_fields.values() for inner in tables_within(field.annotation)]
    named = {inner.__name__ for inner in below if "name" in inner.model_fields}
    return frozenset(named.union(*map(_nameable, below)))
