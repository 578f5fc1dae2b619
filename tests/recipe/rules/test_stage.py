"""What a stage may say, beside its tasks: by rule, nothing built but small members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polytask.recipe.rules.members import try_members
from polytask.recipe.rules.stage import stage_rules
from polytask.recipe.settings import Recipe


@pytest.mark.parametrize(
    ("stage", "place", "told"),
    [
        ({"tasks": ["sentimant"]}, "stages.0.tasks", "Did you mean 'sentiment'?"),
        ({"tasks": []}, "stages.0.tasks", "at least one task"),
        ({"tasks": ["sentiment", "sentiment"]}, "stages.0.tasks", "twice"),
        ({"epochs": 1, "steps": 2}, "stages.0", "not both"),
        ({"train": "heads", "layer_decay": 0.9}, "stages.0.layer_decay", "does nothing"),
        ({"regularizers": ["rdrop", "rdrop"]}, "stages.0.regularizers.1", "already"),
    ],
)
def test_a_stage_that_contradicts_itself(
    parsed: Callable[..., Recipe], stage: dict[str, Any], place: str, told: str
) -> None:
    recipe = parsed(stage)
    ((where, sentence),) = stage_rules(recipe, try_members(recipe)[0])
    assert where == place
    assert told in sentence


def test_stages_that_do_not(parsed: Callable[..., Recipe]) -> None:
    recipe = parsed({"train": "heads", "steps": 3}, {"epochs": 1, "early_stopping": {}, "regularizers": ["smart"]})
    assert list(stage_rules(recipe, try_members(recipe)[0])) == []
