"""Parts and steps of tiny recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from polytask.assembly.parts import Parts, build
from polytask.recipe.load import load_recipe
from polytask.runtime.device import DTYPES
from polytask.runtime.processes import Processes
from polytask.training.step import Step


@pytest.fixture
def parts_of() -> Callable[[Mapping[str, Any]], Parts]:
    """Builds a recipe."""
    return lambda recipe: build(load_recipe(recipe))


@pytest.fixture
def step_of() -> Callable[..., Step]:
    """Makes the step of a stage (the first by default) of built parts."""

    def make(parts: Parts, stage: int = 0, processes: Processes | None = None) -> Step:
        return Step(
            parts.model,
            parts.tasks,
            parts.train_rows,
            parts.stages[stage],
            seed=parts.recipe.seed,
            dtype=DTYPES[parts.recipe.precision],
            processes=processes,
        )

    return make
