"""What there is to choose from: the members of every open room, presets and bundled recipes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from importlib.resources import files
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from polytask.errors import UserError, listed, nearest
from polytask.registry import OURS, Registry
from polytask.tasks.presets import preset_names, preset_summary

from .load import bundled
from .rooms import ROOMS

_TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text"}


def catalogue(room: str | None = None) -> dict[str, dict[str, str]]:
    """Return each room's members with the first line on each, or only those of ``room``. Raises UserError."""
    rooms = {registry.room: {name: _line(registry, name) for name in registry.names()} for registry in ROOMS}
    rooms["presets"] = {name: preset_summary(name) for name in preset_names()}
    rooms["recipes"] = {name: _recipe_summary(name) for name in bundled()}
    return rooms if room is None else {(name := _room(room, rooms)): rooms[name]}


def description(room: str, member: str) -> str:
    """Return all that there is to know of a member: its docstring, and its options with their types and defaults.

    Of a preset or a bundled recipe, its text. Raises UserError or RecipeError that names the near miss.
    """
    rooms = {registry.room: registry for registry in ROOMS}
    name = _room(room, [*rooms, "presets", "recipes"])
    if name in rooms:
        return _described(rooms[name], member)
    place, known = ("tasks/presets", preset_names()) if name == "presets" else ("recipes", bundled())
    if member not in known:
        raise UserError(f"'{member}' is not one of the {name}.{nearest(member, known)} There are {listed(known)}.")
    return (files("polytask") / place / f"{member}.toml").read_text(encoding="utf-8").rstrip()


def _line(registry: Registry[Any], name: str) -> str:
    """Return the first line on a member, and where it comes from if that is not polytask."""
    origin = registry.origin(name)
    return registry.first_line(name) + ("" if origin == OURS else f" [{origin}]")


def _described(registry: Registry[Any], name: str) -> str:
    lines = [inspect.getdoc(registry.member(name)) or ""]
    options = registry.options(name)
    if not options:
        return "\n".join([*lines, "", "It has no options."])
    hints = get_type_hints(registry.member(name).__init__)
    shown = [f"  {option} = {_default(it.default)}  ({_spoken(hints[option])})" for option, it in options.items()]
    return "\n".join([*lines, "", "Options:", *shown])


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "(needed)"
    return "(left open)" if value is None else json.dumps(value)


def _spoken(annotation: Any) -> str:
    """Return what a recipe may write where a type is declared."""
    kinds_of = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) is Literal:
        return " or ".join(map(json.dumps, kinds_of))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(map(_spoken, kinds_of))
    if kinds_of:
        container = "a table" if get_origin(annotation) is dict else "a list"
        return f"{container} of {_TYPES.get(kinds_of[-1], 'values')}s"
    return _TYPES.get(annotation, str(annotation))


def _room(room: str, rooms: Iterable[str]) -> str:
    wanted = room.replace("-", " ").replace("_", " ").lower()
    for name in rooms:
        if wanted in (name, name.rstrip("s"), name.partition(" ")[0], name.partition(" ")[0] + "s"):
            return name
    raise UserError(f"There is no room '{room}'.{nearest(wanted, rooms)} There are {listed(sorted(rooms))}.")


def _recipe_summary(name: str) -> str:
    text = (files("polytask") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    return text.split("\n")[0].removeprefix("# ")
