"""Every member that a recipe chooses is asked once; modules take no memory for it."""

from __future__ import annotations

from collections.abc import Callable

from polytask.recipe.rules.members import try_members
from polytask.recipe.settings import Recipe
from polytask.recipe.walk import members_of


def test_whatever_is_chosen_is_made(parsed: Callable[..., Recipe]) -> None:
    recipe = parsed(
        {"aggregator": "pcgrad", "regularizers": ["smart"]}, sentiment={"head": {"name": "mlp", "layers": 3}}
    )
    made, refused = try_members(recipe)
    assert refused == []
    assert {chosen.place for chosen in members_of(recipe)} == made.keys()
    assert all(parameter.is_meta for parameter in made["tasks.sentiment.head"].parameters())


def test_each_option_is_told_at_its_place(parsed: Callable[..., Recipe]) -> None:
    recipe = parsed(
        {"mixing": {"name": "temperature", "tau": -1.0}}, sentiment={"head": {"name": "mlp", "droput": 0.1}}
    )
    places = dict(try_members(recipe)[1])
    assert "Did you mean 'dropout'?" in places["tasks.sentiment.head.droput"]
    assert any(place.startswith("stages.0.mixing") for place in places)


def test_an_encoder_with_a_wrong_option_is_made_without_it(parsed: Callable[..., Recipe]) -> None:
    made, refused = try_members(parsed(encoder={"layers": 0, "width": 32, "heads": 2}))
    assert [place for place, _ in refused] == ["encoder.layers"]
    assert made["encoder"].sizes["width"] == 32


def test_a_head_that_no_memory_holds(parsed: Callable[..., Recipe]) -> None:
    recipe = parsed(sentiment={"head": {"name": "mlp", "layers": 3, "hidden": 10**7}})
    ((place, sentence),) = try_members(recipe)[1]
    assert place == "tasks.sentiment.head"
    assert "parameters" in sentence
