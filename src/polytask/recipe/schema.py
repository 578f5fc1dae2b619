"""The JSON Schema of a recipe, members of the open rooms and their options included."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from polytask.aggregators.base import aggregators
from polytask.balance.base import balances
from polytask.data.augment.base import augmentations
from polytask.data.mixing.base import mixings
from polytask.evaluation.aggregates.base import aggregates
from polytask.heads.logits.base import heads
from polytask.heads.pairs.base import pair_features
from polytask.heads.pooling.base import poolings
from polytask.metrics.base import metrics
from polytask.registry import Registry
from polytask.regularizers.base import regularizers
from polytask.tasks.kinds.base import kinds
from polytask.tasks.presets import preset_names, preset_summary

from .settings import Recipe

_ROOM_OF: dict[str, dict[str, Registry[Any]]] = {
    "TaskSettings": {"kind": kinds, "pooling": poolings, "head": heads, "augment": augmentations},
    "StageSettings": {"mixing": mixings, "balance": balances, "aggregator": aggregators},
}


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) that editors check a recipe by."""
    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    for table, fields in _ROOM_OF.items():
        for field, registry in fields.items():
            old = definitions[table]["properties"][field]
            kept = {key: value for key, value in old.items() if key in ("default", "description")}
            named = (kept.get("default") or {}).get("name")
            definitions[table]["properties"][field] = {"anyOf": _choices(registry, named), **kept}
    stages = definitions["StageSettings"]["properties"]
    for field, table in (("schedule", "ScheduleSettings"), ("optimizer", "OptimizerSettings")):
        short = {"enum": definitions[table]["properties"]["name"]["enum"]}
        stages[field]["anyOf"] = [short, {"$ref": stages[field].pop("$ref")}]
    stages["average"]["anyOf"].append(definitions["AverageSettings"]["properties"]["decay"])
    weight = definitions["RegularizerSettings"]["properties"]["weight"]
    definitions["RegularizerSettings"] = {
        "description": definitions["RegularizerSettings"]["description"],
        "anyOf": [*_names(regularizers), *(_member(regularizers, n, weight=weight) for n in regularizers.names())],
    }
    tasks = definitions["TaskSettings"]["properties"]
    presets = [{"const": name, "description": preset_summary(name)} for name in preset_names()]
    tasks["preset"]["anyOf"] = [*presets, {"type": "null"}]
    short = {"enum": definitions["ResampleSettings"]["properties"]["name"]["enum"]}
    tasks["resample"]["anyOf"] = [short, *tasks["resample"]["anyOf"]]
    tasks["phrases"]["anyOf"] = [{"type": "string"}, *tasks["phrases"]["anyOf"]]
    tasks["metrics"]["anyOf"][0]["items"] = {"anyOf": _choices(metrics)}
    tasks["judged_by"]["anyOf"] = [*_names(metrics), {"type": "null"}]
    whole = schema["properties"]["aggregate"]
    kept = {key: value for key, value in whole.items() if key in ("default", "description")}
    schema["properties"]["aggregate"] = {"anyOf": _choices(aggregates, "mean"), **kept}
    tasks["pair"] = {"anyOf": _pair_choices(), "description": tasks["pair"]["description"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _choices(registry: Registry[Any], default: str | None = None) -> list[dict[str, Any]]:
    """Return what may stand for a member. Options without a name are those of the ``default``."""
    members = {name: _member(registry, name) for name in registry.names()}
    if default is not None:
        members[default]["required"].remove("name")
    return [*_names(registry), *members.values()]


def _names(registry: Registry[Any]) -> list[dict[str, Any]]:
    return [{"const": name, "description": registry.first_line(name)} for name in registry.names()]


def _member(registry: Registry[Any], name: str, **beside: Any) -> dict[str, Any]:
    hints = get_type_hints(registry.member(name).__init__)
    properties: dict[str, Any] = {"name": {"const": name}, **beside}
    required = ["name"]
    for key, parameter in registry.options(name).items():
        properties[key] = TypeAdapter(hints.get(key, Any)).json_schema()
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


_PAIR_MODES = {"cross": "Both texts joined into one input.", "bi": "Each text encoded apart; `features` merge the two."}


def _pair_choices() -> list[dict[str, Any]]:
    types = {"type": "boolean", "default": True, "description": "Whether the encoder is told which text a token is of."}
    features = {
        "type": "array",
        "items": {"anyOf": _choices(pair_features)},
        "description": "What the head sees of the two vectors, side by side.",
    }
    dropout = {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "default": 0.0,
        "description": "Dropout on each text's vector before they are merged (Irgau & Lalgudi, CS224N report).",
    }
    return [
        *({"const": name, "description": told} for name, told in _PAIR_MODES.items()),
        _mode("cross", [], types=types),
        _mode("bi", ["name"], features=features, dropout=dropout),
    ]


def _mode(name: str, required: list[str], **options: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": _PAIR_MODES[name],
        "properties": {"name": {"const": name}, **options},
        "required": required,
        "additionalProperties": False,
    }
