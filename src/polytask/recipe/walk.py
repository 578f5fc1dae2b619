"""One walk over everything in a recipe that names a member of an open room.

Which setting chooses from which room stands at the setting itself (``InRoom``); whatever has to be done with every member
of a recipe (check it, spell its defaults out, note where it comes from) is done on this walk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from polytask.registry import InRoom, Registry
from polytask.tasks.kinds.base import EVERY_SETTING

from .facts import kind_of
from .reading import tables_within
from .rooms import ROOM_CALLED
from .settings import Member, Recipe, TaskSettings

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class Chosen:
    """A member that a recipe names: where, of which room, with which options, and in whose settings."""

    place: str
    registry: Registry[Any]
    name: str
    options: Mapping[str, Any]
    owner: BaseModel


def members_of(recipe: Recipe) -> list[Chosen]:
    """Return every member that a recipe chooses, in its order, those among the options of others included."""
    found: list[Chosen] = []

    def note(chosen: Chosen) -> None:
        found.append(chosen)
        found.extend(_among_options(chosen))

    with_members(recipe, note)
    return found


def with_members(settings: S, change: Callable[[Chosen], Mapping[str, Any] | None], place: str = "") -> S:
    """Return settings in which each member has the options that ``change`` returns for it; None leaves them alone."""
    changes: dict[str, Any] = {}
    for key, field in type(settings).model_fields.items():
        value, room = getattr(settings, key), room_of(field)
        if isinstance(settings, TaskSettings) and key in EVERY_SETTING - kind_of(settings).takes:
            continue  # it means nothing to the task's kind
        where = f"{place}.{key}".lstrip(".")
        changed = _each(value, where, partial(_changed, room, settings, change))
        if changed is not value:
            changes[key] = changed
    return settings.model_copy(update=changes)


def room_of(field: FieldInfo) -> Registry[Any] | None:
    """Return the room that a setting chooses from, if it does."""
    rooms = [mark.room for mark in field.metadata if isinstance(mark, InRoom)]
    return ROOM_CALLED[rooms[0]] if rooms else None


def at(place: Sequence[str]) -> tuple[type[BaseModel] | None, Registry[Any] | None]:
    """Return what kind of table stands at a place of a recipe, and of which room it is a member."""
    table: type[BaseModel] | None = Recipe
    room: Registry[Any] | None = None
    for part in place:
        if table is None or part not in table.model_fields:
            continue  # the name of a task, the number of a stage
        field = table.model_fields[part]
        table, room = next(tables_within(field.annotation), None), room_of(field)
    return table, room


def _each(value: Any, place: str, change: Callable[[Any, str], Any]) -> Any:
    """Return a value in which every table is changed: alone, in a list, or by name."""
    if isinstance(value, BaseModel):
        return change(value, place)
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return [change(item, f"{place}.{number}") for number, item in enumerate(value)]
    if isinstance(value, dict) and value and isinstance(next(iter(value.values())), BaseModel):
        return {name: change(item, f"{place}.{name}") for name, item in value.items()}
    return value


def _changed(
    room: Registry[Any] | None,
    owner: BaseModel,
    change: Callable[[Chosen], Mapping[str, Any] | None],
    table: Any,
    place: str,
) -> Any:
    """Return a table below a setting with what ``change`` makes of it: a member of ``room``, or settings with more below."""
    if room is None:
        return with_members(table, change, place)
    options = change(Chosen(place, room, table.name, table.options, owner))
    if options is None:
        return table
    return type(table)(**{**options, **{key: getattr(table, key) for key in type(table).model_fields}})


def _among_options(chosen: Chosen) -> Iterator[Chosen]:
    """Yield the members that a member's own options name, such as the features of a pair."""
    if chosen.name not in chosen.registry.names():
        return
    hints = get_type_hints(chosen.registry.member(chosen.name).__init__, include_extras=True)
    for key, annotation in hints.items():
        room = next((mark.room for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, InRoom)), None)
        given = chosen.options.get(key)
        for item in given if room is not None and isinstance(given, list) else ():
            options = dict(item) if isinstance(item, dict) else {"name": item}
            if isinstance(options.get("name"), str):
                member = Member(**options)
                yield Chosen(f"{chosen.place}.{key}", ROOM_CALLED[str(room)], member.name, member.options, chosen.owner)
