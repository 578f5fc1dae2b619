"""Writes reference.md: every key of a recipe, and every member of every open room with its options, from the code itself.

python docs/reference.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from polytask.recipe.catalogue import description
from polytask.recipe.reading import tables_within
from polytask.recipe.rooms import ROOMS
from polytask.recipe.settings import Member, Recipe
from polytask.recipe.walk import room_of

PAGE = Path(__file__).with_name("reference.md")
HEAD = """# Reference of the recipe

Every key, and every member that a key may name. Written by `docs/reference.py` from the code; the same is told by
`polytask schema` (for editors) and `polytask list ROOM MEMBER`. [The recipe](recipe.md) shows them at work.
"""
TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "object": "table"}


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, "## Keys\n"]
    parts += [part for table in tables(Recipe) for part in section(table)]
    parts.append("## Members\n")
    for registry in ROOMS:
        parts.append(f"### {registry.room}\n")
        for name in registry.names():
            parts.append(f"**`{name}`**\n\n```text\n{description(registry.room, name)}\n```\n")
    return "\n".join(parts).rstrip() + "\n"


def tables(table: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a kind of table and all kinds below it, each once; members of rooms apart, which have their own options."""
    found = [table]
    for one in found:
        for field in one.model_fields.values():
            below = tables_within(field.annotation)
            # A member has a name and its own options alone; the encoder's table and a regularizer's have keys beside.
            found += [t for t in below if t not in found and t is not Member]
    return found


def section(table: type[BaseModel]) -> Iterator[str]:
    """Yield the lines on one kind of table."""
    yield f"### {called(table)}\n"
    if table is not Recipe:
        yield f"{(table.__doc__ or '').strip()}\n"
    schema = table.model_json_schema()
    yield "| key | may be | default | |\n|---|---|---|---|"
    for key, field in table.model_fields.items():
        sentence = " ".join((field.description or "").split())
        yield f"| `{key}` | {kind_of(field, schema['properties'][key])} | {default(field)} | {escaped(sentence)} |"
    yield ""


def called(table: type[BaseModel]) -> str:
    """Return what a kind of table is called in the page."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", table.__name__.removesuffix("Settings")).lower()


def kind_of(field: FieldInfo, schema: dict[str, Any]) -> str:
    """Return what may stand for a key, in words."""
    room = room_of(field)
    below = [f"[{called(table)}](#{called(table)})" for table in tables_within(field.annotation) if table is not Member]
    if room is not None:
        listed = "array" in {one.get("type") for one in (schema, *schema.get("anyOf", ()))}
        member = f"{'members' if listed else 'a member'} of [{room.room}](#{room.room.replace(' ', '-')})"
        return ", beside the keys of ".join([member, *below])
    words = list(worded(schema))
    if below and words in (["a list"], ["table"]):  # of tables, in their order or by name
        return f"{'a list' if words == ['a list'] else 'tables by name'}, each {' or '.join(below)}"
    return escaped(" or ".join(dict.fromkeys([*words, *below])))


def worded(schema: dict[str, Any]) -> Iterator[str]:
    """Yield what a schema allows, alternatives apart; tables of their own are linked by ``kind_of``."""
    if "anyOf" in schema:
        for one in schema["anyOf"]:
            yield from worded(one)
    elif "enum" in schema:
        yield from (f"`{json.dumps(value)}`" for value in schema["enum"])
    elif "const" in schema:
        yield f"`{json.dumps(schema['const'])}`"
    elif schema.get("type") == "array":
        inner = " or ".join(worded(schema.get("items", {})))
        yield f"a list of {inner}" if inner else "a list"
    elif schema.get("type") in TYPES:
        yield TYPES[schema["type"]] + "".join(bounds(schema))


def bounds(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the limits of a number."""
    for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")):
        if key in schema:
            yield f" {sign} {schema[key]:g}"


def default(field: FieldInfo) -> str:
    """Return what a key is when it is not given."""
    if field.is_required():
        return "needed"
    value = field.default
    if isinstance(value, BaseModel):
        name = getattr(value, "name", None)
        return f"`{json.dumps(name)}`" if name else ""
    return "" if value is None or value == [] or isinstance(value, list) else f"`{json.dumps(value)}`"


def escaped(text: str) -> str:
    """Return a text that may stand in a cell of a table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
