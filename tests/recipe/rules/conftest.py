"""A small recipe as it was read, with no rule asked yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polytask.recipe.reading import parse_recipe
from polytask.recipe.settings import Recipe

Parsed = Callable[..., Recipe]


@pytest.fixture
def parsed(tiny: Callable[..., dict[str, Any]]) -> Parsed:
    def parse(*stages: dict[str, Any], encoder: dict[str, Any] | None = None, **tasks: dict[str, Any] | None) -> Recipe:
        recipe = tiny(*stages)
        recipe["encoder"] = recipe["encoder"] if encoder is None else encoder
        for name, changes in tasks.items():
            recipe["tasks"][name] = recipe["tasks"].get(name, recipe["tasks"]["sentiment"]) | (changes or {})
        return parse_recipe(recipe, "my.toml")

    return parse
