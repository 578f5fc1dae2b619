"""The JSON Schema of a recipe accepts what polytask accepts, and refuses what it refuses."""

from __future__ import annotations

import copy
import json
import math
import tomllib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from polytask.errors import UserError
from polytask.evaluation.formats.base import formats
from polytask.recipe.catalogue import catalogue, description
from polytask.recipe.load import bundled
from polytask.recipe.rooms import ROOMS
from polytask.recipe.schema import recipe_schema
from polytask.tasks.presets import preset_names

Tiny = Callable[..., dict[str, Any]]

SCHEMA = json.loads(json.dumps(recipe_schema()))
KNOWN = {
    *(
        "$schema",
        "$defs",
        "$ref",
        "title",
        "description",
        "default",
        "type",
        "properties",
        "required",
        "items",
        "anyOf",
    ),
    *("additionalProperties", "enum", "const", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"),
    *("minLength", "prefixItems", "minItems", "maxItems", "minProperties"),
}
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def accepts(schema: Any, value: Any) -> bool:
    """Say whether a value fits a schema, as far as recipes' schemas go."""
    if isinstance(schema, bool):
        return schema
    assert schema.keys() <= KNOWN, schema.keys() - KNOWN
    if "$ref" in schema and not accepts(SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], value):
        return False
    if "anyOf" in schema and not any(accepts(option, value) for option in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "type" in schema:
        if isinstance(value, bool) and schema["type"] != "boolean":
            return False
        if not isinstance(value, TYPES[schema["type"]]):
            return False
    if isinstance(value, dict):
        return accepts_object(schema, value)
    if isinstance(value, list):
        return accepts_list(schema, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, above = schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf)
        high, below = schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf)
        return bool(low <= value <= high and above < value < below)
    return True


def accepts_object(schema: dict[str, Any], value: dict[str, Any]) -> bool:
    properties = schema.get("properties", {})
    if not set(schema.get("required", ())) <= value.keys() or len(value) < schema.get("minProperties", 0):
        return False
    others = schema.get("additionalProperties", True)
    return all(accepts(properties.get(key, others), item) for key, item in value.items())


def accepts_list(schema: dict[str, Any], value: list[Any]) -> bool:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return False
    first = schema.get("prefixItems", [])
    pairs = [*zip(first, value, strict=False), *((schema.get("items", True), item) for item in value[len(first) :])]
    return all(accepts(own, item) for own, item in pairs)


@pytest.mark.parametrize("name", bundled())
def test_bundled_recipes_fit(name: str) -> None:
    text = (files("polytask") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    assert accepts(SCHEMA, tomllib.loads(text))


def test_a_recipe_with_everything_fits(tiny: Tiny) -> None:
    recipe = tiny(
        {
            "train": {"last": 1},
            "mixing": {"name": "joint", "until": "shortest"},
            "aggregator": "pcgrad",
            "schedule": "cosine",
            "optimizer": {"name": "adam", "betas": [0.9, 0.99]},
            "regularizers": [{"name": "rdrop", "weight": {"sentiment": 1.0}, "alpha": 2.0}],
            "early_stopping": {"patience": 2},
        }
    )
    recipe["tasks"]["similarity"]["pair"] = {"name": "bi", "features": ["u", {"name": "cosine"}], "dropout": 0.1}
    recipe["tasks"]["paraphrase"] |= {"kind": {"name": "binary", "logits": 2}, "projection": {"layers": 2, "width": 9}}
    recipe["tasks"]["sentiment"]["pooling"] = {"name": "mean", "layers": [1, 2]}
    recipe["tasks"]["sentiment"] |= {"dev": 0.1, "labels": {"0": "bad"}, "head": {"name": "mlp", "layers": 2}}
    recipe["tasks"]["sentiment"] |= {
        "resample": "over",
        "phrases": "trees.txt",
        "augment": {"name": "eda", "swap": 0.2},
    }
    recipe["tasks"]["sentiment"]["kind"] = {"name": "classification", "class_weights": {"0": 2.0}, "smoothing": 0.1}
    recipe["tasks"]["similarity"]["resample"] = {"name": "under", "bins": 5}
    recipe["tasks"]["paraphrase"]["kind"] = {"name": "binary", "class_weights": "balanced", "focal": 2}
    recipe["tasks"]["similarity"] |= {"symmetric": True, "encoder": "own"}
    recipe["tasks"]["paraphrase"] |= {"symmetric": {"consistency": 0.5}}
    recipe["tasks"]["words"] = {"kind": "mlm", "rows_from": ["sentiment", {"task": "paraphrase", "label": "1"}]}
    recipe["tasks"]["pairs"] = {"kind": {"name": "ranking", "temperature": 0.1}, "rows_from": "paraphrase"}
    assert accepts(SCHEMA, recipe)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        (("tasks", "sentiment"), "resample", "oer"),
        (("tasks", "sentiment"), "resample", {"name": "over", "bin": 3}),
        (("tasks", "sentiment"), "phrases", {"trees": "t.txt", "min_word": 2}),
        (("tasks", "sentiment"), "augment", {"name": "eda", "swop": 0.1}),
        (("tasks", "sentiment"), "kind", {"name": "classification", "class_weights": "balancd"}),
        (("tasks", "sentiment"), "encoder", "mine"),
        (("tasks", "paraphrase"), "symmetric", {"consistenzy": 1.0}),
        (("tasks", "paraphrase"), "symmetric", {"consistency": -1.0}),
        ((), "sed", 3),
        ((), "seed", -1),
        ((), "precision", "float16"),
        (("encoder",), "layers", 0),
        (("encoder",), "dropout", 1.0),
        (("tasks", "sentiment"), "lable", "x"),
        (("tasks", "sentiment"), "kind", "clasification"),
        (("tasks", "sentiment"), "head", {"name": "mlp", "layer": 2}),
        (("tasks", "sentiment"), "kind", {"name": "regression"}),
        (("tasks", "sentiment"), "preset", "sst6"),
        (("tasks", "sentiment"), "pooling", {"name": "mean", "layers": "some"}),
        (("tasks", "sentiment"), "projection", {"layer": 2}),
        (("tasks", "sentiment"), "projection", {"layers": 101}),
        (("tasks", "sentiment"), "rows_from", {"tsk": "paraphrase"}),
        (("tasks", "sentiment"), "rows_from", [{"task": "paraphrase", "splits": ["test"]}]),
        (("tasks", "similarity"), "pair", {"name": "bi", "features": ["w"]}),
        (("tasks", "similarity"), "pair", "crss"),
        (("tasks", "similarity"), "pair", {"name": "bi", "dropout": 1.0}),
        (("stages", 0), "mixing", "jiont"),
        (("stages", 0), "schedule", "cosin"),
        (("stages", 0), "schedule", {"name": "cosine", "warm_up": 0.1}),
        (("stages", 0), "regularizers", [{"name": "rdrp"}]),
        (("stages", 0), "regularizers", [{"name": "rdrop", "alfa": 1.0}]),
        (("stages", 0), "epochs", 0),
        (("stages", 0), "train", "head"),
    ],
)
def test_what_polytask_refuses_does_not_fit(tiny: Tiny, place: tuple[Any, ...], key: str, value: Any) -> None:
    recipe = copy.deepcopy(tiny())
    assert accepts(SCHEMA, recipe)
    table = recipe
    for part in place:
        table = table[part]
    table[key] = value
    assert not accepts(SCHEMA, recipe)


def test_every_field_has_its_sentence() -> None:
    for name, table in SCHEMA["$defs"].items():
        if "properties" in table and name.endswith("Settings"):
            assert all("description" in field or field.get("$ref") for field in table["properties"].values()), name


def tables_of(schema: Any) -> list[dict[str, Any]]:
    """Return every table within a schema, the schema itself included."""
    if isinstance(schema, list):
        return [found for item in schema for found in tables_of(item)]
    return [schema, *tables_of([*schema.values()])] if isinstance(schema, dict) else []


def test_every_choice_has_its_sentence() -> None:
    told = {(table["const"], table.get("description")) for table in tables_of(SCHEMA) if "const" in table}
    for registry in ROOMS:
        if registry is formats:  # chosen where a table is predicted, not in a recipe
            continue
        assert {(name, registry.first_line(name)) for name in registry.names()} <= told
    assert {"cross", "bi", *preset_names()} <= {name for name, sentence in told if sentence}
    members = [table for table in tables_of(SCHEMA) if "const" in table.get("properties", {}).get("name", {})]
    assert len(members) > 40
    assert all(member.get("description") for member in members)


def test_what_may_be_left_out_or_short_fits(tiny: Tiny) -> None:
    recipe = tiny({"regularizers": ["smart", {"name": "rdrop"}], "mixing": {"slope": 0.5, "name": "annealed"}})
    recipe["tasks"]["sentiment"] |= {"head": {"dropout": 0.5}}
    recipe["tasks"]["paraphrase"]["pair"] = {"types": False}
    assert accepts(SCHEMA, recipe)
    recipe["tasks"]["sentiment"]["head"] = {"layers": 2}  # the default head has none
    assert not accepts(SCHEMA, recipe)


def test_references_lead_somewhere() -> None:
    wanted = set(json.dumps(SCHEMA).split('"$ref": "#/$defs/')[1:])
    assert {reference.split('"')[0] for reference in wanted} <= SCHEMA["$defs"].keys()


def test_the_catalogue_holds_every_room_with_a_line_on_each_member() -> None:
    everything = catalogue()
    assert everything.keys() == {registry.room for registry in ROOMS} | {"presets", "recipes"}
    for room, members in everything.items():
        assert members, room
        assert all(line and not line.startswith("#") for line in members.values()), room
        assert catalogue(room) == {room: members}


@pytest.mark.parametrize(("room", "member"), [(room, name) for room, names in catalogue().items() for name in names])
def test_every_member_is_described_with_all_its_options(room: str, member: str) -> None:
    text = description(room, member)
    registry = next((registry for registry in ROOMS if registry.room == room), None)
    if registry is None:
        assert tomllib.loads(text)
        return
    assert text.startswith(registry.first_line(member))
    for option in registry.options(member):
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {option} = ")]
        assert not any(foreign in line for foreign in ("typing", "<class", "None"))


def test_what_there_is_not_cannot_be_described() -> None:
    with pytest.raises(UserError, match="Did you mean 'stsb'"):
        description("presets", "sts")
    with pytest.raises(UserError, match="Did you mean 'heads'"):
        description("heds", "mlp")
