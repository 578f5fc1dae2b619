"""A recipe from a file, a bundled name or a mapping, with presets and overrides applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from polytask.encoder.base import encoders
from polytask.errors import RecipeError, listed, nearest, shown
from polytask.tasks.presets import preset

from .facts import with_columns
from .reading import Loaded, Problem, invalid, read_recipe
from .rules.problems import examine
from .settings import TaskSettings
from .toml import apply_overrides, read_toml
from .walk import at, room_of

_ANY_TASK = {"kind": "classification", "text": "text", "label": "label"}
"""What stands for a preset that there is not, so that the rest of its task can be checked."""


def load_recipe(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> Loaded:
    """Return a recipe from a TOML file, the name of a bundled one, or tables as TOML would give them.

    Raises RecipeError that lists everything wrong with it at once.
    """
    if isinstance(source, Mapping):
        tables, base, name = dict(source), Path.cwd(), "The mapping"
    else:
        path, own = _find(source)
        # A bundled recipe's tables are the person's: its relative paths start where they stand.
        tables, base, name = read_toml(path), path.resolve().parent if own else Path.cwd(), str(source)
    tables.pop("resolved", None)
    tables, unknown = _overridden(tables, list(overrides))
    recipe, problems = read_recipe(tables)
    problems = [*unknown, *(_with_names(*problem) for problem in problems)]
    if recipe is None:
        raise invalid(name, [f"{place}: {sentence}" for place, sentence in problems])
    recipe = with_columns(recipe)
    examine(recipe, problems).raise_all(name)
    return Loaded(recipe, base)


def bundled() -> list[str]:
    """Return the names of the recipes that come with polytask."""
    folder = files("polytask") / "recipes"
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def _find(source: str | Path) -> tuple[Path, bool]:
    path = Path(source)
    try:
        there, folder = path.is_file(), path.is_dir()
    except (OSError, ValueError) as error:
        raise RecipeError(f"{shown(str(source))} cannot be the name of a recipe.") from error
    # A run folder that bears a bundled recipe's name (as `polytask quickstart` leaves one) does not hide the recipe.
    if not there and str(source) in bundled():
        return Path(str(files("polytask") / "recipes" / f"{source}.toml")), False
    if folder:
        inside = path / "recipe.toml"
        near = f" Did you mean {inside}?" if inside.is_file() else ""
        raise RecipeError(f"{path} is a folder, not a recipe.{near}")
    if not path.exists() and (near := nearest(str(source), bundled())):
        raise RecipeError(f"There is no recipe {path}.{near}")
    return path, True


def _overridden(tables: dict[str, Any], overrides: list[str]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the tables with presets and overrides, and the presets that there are not.

    Presets are filled in before, so that an override can reach into what they give, and again after: it may bring a
    task, or name the preset's kind.
    """
    presets = [override for override in overrides if override.partition("=")[0].strip().endswith(".preset")]
    filled, _ = _with_presets(apply_overrides(tables, presets))
    return _with_presets(apply_overrides(filled, overrides))


def _with_names(place: str, sentence: str) -> Problem:
    """Return a problem; of a member without a name, where no default stands for it, with the names there are."""
    above, _, key = place.rpartition(".")
    _, room = at(above.split("."))
    if room is None or key != ("architecture" if room is encoders else "name"):
        return place, sentence
    there = f"; there are {listed(room.names())}."
    return place, sentence.removesuffix(".") + there if sentence.endswith(
        ("is missing.", "wanted a text.")
    ) else sentence


def _with_presets(tables: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    tasks = tables.get("tasks")
    if not isinstance(tasks, dict):
        return tables, []
    problems: list[Problem] = []
    filled: dict[str, Any] = {}
    for name, settings in tasks.items():
        filled[name] = settings
        if isinstance(settings, dict) and "preset" in settings:
            filled[name] = _ANY_TASK | settings
            try:
                if isinstance(settings["preset"], str):
                    filled[name] = _filled(preset(settings["preset"]), settings)
            except RecipeError as error:
                problems.append((f"tasks.{name}.preset", str(error)))
    return tables | {"tasks": filled}, problems


def _filled(defaults: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return a task's settings over a preset's. Options of the preset's own member, named or not, join the preset's."""
    joined: dict[str, Any] = {}
    members = {key for key, field in TaskSettings.model_fields.items() if room_of(field) is not None}
    for key in members & defaults.keys() & settings.keys():
        own, given = _table(defaults[key]), _table(settings[key])
        if isinstance(given, dict) and given.get("name", own["name"]) == own["name"]:
            joined[key] = own | given
    return defaults | settings | joined


def _table(member: Any) -> Any:
    return {"name": member} if isinstance(member, str) else member
