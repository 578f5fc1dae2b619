"""What the encoder's table may say, and what a recipe may ask of an encoder: by rule, nothing built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polytask.encoder.base import Outline
from polytask.recipe.rules.encoder import encoder_rules, fit_rules
from polytask.recipe.settings import Recipe

OUTLINE = Outline(depth=2, positions=64, has_pooler=True)


@pytest.mark.parametrize(
    ("encoder", "place", "told"),
    [
        ({"layerz": 2}, "encoder.layerz", "Did you mean 'layers'?"),
        ({"architecture": "lstm", "heads": 2}, "encoder.heads", "does nothing: an lstm has none"),
        ({"architecture": "lstm", "checkpoint": "minilm"}, "encoder", "takes no checkpoint"),
        ({"architecture": "auto"}, "encoder", "needs a checkpoint"),
        ({"checkpoint": "minilm", "layers": 2}, "encoder", "'layers' cannot be chosen with a checkpoint"),
        ({"checkpoint": "minilm", "tokenizer": "minilm"}, "encoder", "'tokenizer' cannot be chosen"),
        ({"tokenizer": "minilm", "vocabulary": 100}, "encoder.vocabulary", "does nothing beside 'tokenizer'"),
    ],
)
def test_a_table_that_contradicts_itself(
    parsed: Callable[..., Recipe], encoder: dict[str, Any], place: str, told: str
) -> None:
    ((where, sentence),) = encoder_rules(parsed(encoder=encoder))
    assert where == place
    assert told in sentence


@pytest.mark.parametrize(
    "encoder", [{}, {"architecture": "lstm", "hidden": 8}, {"checkpoint": "minilm", "dropout": 0.0}]
)
def test_a_table_that_does_not(parsed: Callable[..., Recipe], encoder: dict[str, Any]) -> None:
    assert list(encoder_rules(parsed(encoder=encoder))) == []


@pytest.mark.parametrize(
    ("changes", "outline", "told"),
    [
        ({"max_length": 65}, OUTLINE, "the encoder takes 64 tokens"),
        ({"pooling": {"name": "mean", "layers": [5]}}, OUTLINE, "5"),
        ({"pooling": "cls"}, Outline(2, 64, False), "use 'mean' or 'max'"),
        (
            {"pooling": {"name": "cls", "layers": [1]}},
            Outline(2, 64, True, pools_any_layer=False),
            "the last layer alone",
        ),
        ({"pooling": {"name": "mean", "layers": [0]}}, Outline(2, 64, True, lowest_layer=1), "counted from 1"),
    ],
)
def test_what_an_encoder_has_not(
    parsed: Callable[..., Recipe], changes: dict[str, Any], outline: Outline, told: str
) -> None:
    others = {name: {"pooling": "mean"} for name in ("paraphrase", "similarity")}
    ((_, sentence),) = fit_rules(parsed(sentiment=changes, **others), outline)
    assert told in sentence


def test_layers_of_a_stage_that_there_are_not(parsed: Callable[..., Recipe]) -> None:
    recipe = parsed({"train": {"last": 3}}, {"train": {"last": 2}})
    assert [place for place, _ in fit_rules(recipe, OUTLINE)] == ["stages.0.train.last"]
