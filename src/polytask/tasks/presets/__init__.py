"""Presets: TOML files with the defaults of well-known tasks. Open: a preset is a file here."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from polytask.errors import RecipeError, listed, nearest


def preset_names() -> list[str]:
    """Return the presets there are."""
    return sorted(
        path.name.removesuffix(".toml") for path in files(__package__).iterdir() if path.name.endswith(".toml")
    )


def preset(name: str) -> dict[str, Any]:
    """Return a preset's settings. Raises RecipeError that names the near miss."""
    if name not in preset_names():
        raise RecipeError(
            f"'{name}' is not a preset.{nearest(name, preset_names())} There are {listed(preset_names())}."
        )
    return tomllib.loads((files(__package__) / f"{name}.toml").read_text(encoding="utf-8"))


def preset_summary(name: str) -> str:
    """Return the comment on a preset's first line."""
    return (files(__package__) / f"{name}.toml").read_text(encoding="utf-8").split("\n")[0].removeprefix("# ")
