"""TOML in and out, and overrides of single keys."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from polytask.errors import RecipeError, nearest

from .settings import Recipe


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises RecipeError that names the line."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        near = nearest(path.name, (other.name for other in path.parent.glob("*.toml"))) if path.parent.is_dir() else ""
        raise RecipeError(f"There is no recipe {path}.{near}") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        wide = " It looks like UTF-16." if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        where = f"byte {error.start + 1} is 0x{content[error.start]:02X}"
        raise RecipeError(f"{path} cannot be read: {where}, which is not UTF-8.{wide} Save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not TOML: {error}.") from error
    except ValueError as error:
        raise RecipeError(f"{path} is not TOML: a number in it has too many digits.") from error
    except RecursionError as error:
        raise RecipeError(f"{path} is not TOML: its lists or tables lie too deep.") from error


def apply_overrides(tables: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return ``tables`` with each ``a.b.c=value`` set; the value is read as TOML, or else as text.

    A number in the path picks from a list (``stages.0.epochs=1``).
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        parts = [part.strip() for part in path.split(".")]
        if not equals or "" in parts:
            raise RecipeError(f"An override is KEY=VALUE, as in stages.0.epochs=1; it was given '{override}'.")
        tables = _with(tables, parts, _value(text.strip()), override)
    return tables


def to_toml(recipe: Recipe, notes: Mapping[str, Any] | None = None) -> str:
    """Return a recipe as TOML, every default visible; ``notes`` become a table of their own, ``[resolved]``."""
    tables = _without_none(recipe.model_dump(mode="json"))
    if notes:
        tables["resolved"] = _without_none(dict(notes))
    return tomli_w.dumps(tables)


def _value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if len(found) == 1 else text


def _with(tables: Any, path: Sequence[str], value: Any, override: str) -> Any:
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(tables, list):
        if not key.isdecimal() or len(key) > 9 or int(key) >= len(tables):
            raise RecipeError(f"The override {override}: '{key}' should be a number below {len(tables)}.")
        return [*tables[: int(key)], _with(tables[int(key)], rest, value, override), *tables[int(key) + 1 :]]
    if isinstance(tables, str) and not key.isdecimal():
        tables = {"name": tables}  # head = "mlp" is short for head = { name = "mlp" }
    if isinstance(tables, bool):
        tables = {}  # symmetric = true is short for a table of defaults
    if not isinstance(tables, dict):
        raise RecipeError(f"The override {override}: there is nothing below '{tables}' that '{key}' could be.")
    default: Any = [{}] if key == "stages" else {}
    return {**tables, key: _with(tables.get(key, default), rest, value, override)}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value
