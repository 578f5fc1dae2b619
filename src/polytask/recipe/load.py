"""A recipe from a file, a bundled name or a mapping, with presets and overrides applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from polytask.config import Recipe, apply_overrides, parse_recipe, read_toml
from polytask.errors import RecipeError
from polytask.tasks.presets import preset


@dataclass(frozen=True)
class Loaded:
    """A recipe, and the folder that its relative paths start from."""

    recipe: Recipe
    base: Path


def load_recipe(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> Loaded:
    """Return a recipe from a TOML file, the name of a bundled one, or tables as TOML would give them.

    Raises RecipeError that lists everything wrong with it at once.
    """
    if isinstance(source, Mapping):
        tables, base, name = dict(source), Path.cwd(), "The recipe"
    else:
        path, own = _find(source)
        # A bundled recipe's tables are the person's: its relative paths start where they stand.
        tables, base, name = read_toml(path), path.resolve().parent if own else Path.cwd(), str(source)
    tables.pop("resolved", None)
    tables = apply_overrides(tables, overrides)
    return Loaded(parse_recipe(_with_presets(tables), name), base)


def bundled() -> list[str]:
    """Return the names of the recipes that come with polytask."""
    folder = files("polytask") / "recipes"
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def _find(source: str | Path) -> tuple[Path, bool]:
    path = Path(source)
    # A run folder that bears a bundled recipe's name (as `polytask quickstart` leaves one) does not hide the recipe.
    if not path.is_file() and str(source) in bundled():
        return Path(str(files("polytask") / "recipes" / f"{source}.toml")), False
    if path.is_dir():
        inside = path / "recipe.toml"
        raise RecipeError(
            f"{path} is a folder, not a recipe." + (f" Did you mean {inside}?" if inside.is_file() else "")
        )
    return path, True


def _with_presets(tables: dict[str, Any]) -> dict[str, Any]:
    tasks = tables.get("tasks")
    if not isinstance(tasks, dict):
        return tables
    problems: list[str] = []
    filled: dict[str, Any] = {}
    for name, settings in tasks.items():
        filled[name] = settings
        if isinstance(settings, dict) and isinstance(settings.get("preset"), str):
            try:
                filled[name] = preset(settings["preset"]) | settings
            except RecipeError as error:
                problems.append(f"tasks.{name}.preset: {error}")
    if problems:
        raise RecipeError("\n".join(problems))
    return tables | {"tasks": filled}
