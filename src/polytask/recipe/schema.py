"""The JSON Schema of a recipe, members of the open rooms and their options included."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter

from polytask.encoder.base import encoders
from polytask.metrics.base import metrics
from polytask.registry import InRoom, Registry
from polytask.tasks.presets import preset_names, preset_summary

from .reading import tables_within
from .rooms import ROOM_CALLED
from .settings import EncoderSettings, Recipe, RegularizerSettings
from .walk import room_of


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) that editors check a recipe by."""
    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    weight = definitions["RegularizerSettings"]["properties"]["weight"]
    for table in _tables(Recipe):
        properties = schema["properties"] if table is Recipe else definitions[table.__name__]["properties"]
        for key, field in table.model_fields.items():
            registry = room_of(field)
            if registry is None:
                continue
            if table is Recipe and key == "encoder":
                properties[key] = _encoder(definitions["EncoderSettings"], properties[key].get("description"))
                continue
            beside = {"weight": weight} if RegularizerSettings in tables_within(field.annotation) else {}
            kept = {name: value for name, value in properties[key].items() if name in ("default", "description")}
            default = kept.get("default")
            choices = {"anyOf": _choices(registry, default["name"] if isinstance(default, dict) else None, **beside)}
            listed = properties[key].get("type") == "array" or "items" in properties[key].get("anyOf", [{}])[0]
            properties[key] = ({"type": "array", "items": choices} if listed else choices) | kept
    tasks = definitions["TaskSettings"]["properties"]
    presets = [{"const": name, "description": preset_summary(name)} for name in preset_names()]
    tasks["preset"]["anyOf"] = [*presets, {"type": "null"}]
    tasks["judged_by"]["anyOf"] = [*_names(metrics), {"type": "null"}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _encoder(table: dict[str, Any], told: str | None) -> dict[str, Any]:
    """Return what the encoder's table may be: general keys, and for each architecture its own options."""
    general = {key: value for key, value in table["properties"].items() if key != "architecture"}
    choices = []
    for name in encoders.names():
        choice = _member(encoders, name, **general)
        del choice["properties"]["name"]
        choice["properties"]["architecture"] = {"const": name, "description": encoders.first_line(name)}
        choice["required"] = ["architecture"] if name != EncoderSettings().architecture else []
        choices.append(choice)
    return {"anyOf": choices, "description": told or table["description"]}


def _tables(table: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a kind of table and all kinds below it, each once."""
    found = [table]
    for one in found:
        below = (
            inner
            for field in one.model_fields.values()
            if room_of(field) is None
            for inner in tables_within(field.annotation)
        )
        found += [inner for inner in dict.fromkeys(below) if inner not in found]
    return found


def _choices(registry: Registry[Any], default: str | None = None, **beside: Any) -> list[dict[str, Any]]:
    """Return what may stand for a member. Options without a name are those of the ``default``."""
    members = {name: _member(registry, name, **beside) for name in registry.names()}
    if default is not None:
        members[default]["required"].remove("name")
    return [*_names(registry), *members.values()]


def _names(registry: Registry[Any]) -> list[dict[str, Any]]:
    return [{"const": name, "description": registry.first_line(name)} for name in registry.names()]


def _member(registry: Registry[Any], name: str, **beside: Any) -> dict[str, Any]:
    hints = get_type_hints(registry.member(name).__init__, include_extras=True)
    properties: dict[str, Any] = {"name": {"const": name}, **beside}
    required = ["name"]
    for key, parameter in registry.options(name).items():
        properties[key] = _option(hints.get(key, Any))
        if parameter.default is inspect.Parameter.empty:
            required.append(key)
        else:
            properties[key]["default"] = parameter.default
    return {
        "type": "object",
        "description": inspect.getdoc(registry.member(name)),
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _option(annotation: Any) -> dict[str, Any]:
    """Return the schema of an option's type; one that names members of a room itself is a list of these."""
    rooms = [mark.room for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, InRoom)]
    if rooms:
        return {"type": "array", "items": {"anyOf": _choices(ROOM_CALLED[rooms[0]])}}
    return TypeAdapter(annotation).json_schema()
