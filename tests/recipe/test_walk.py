"""One walk finds every member that a recipe names, where it names it, and changes it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from polytask.recipe.reading import parse_recipe
from polytask.recipe.walk import at, members_of, with_members

Tiny = Callable[..., dict[str, Any]]


def test_members_are_found_with_room_and_place(tiny: Tiny) -> None:
    recipe = tiny({"aggregator": "pcgrad", "regularizers": ["smart", "rdrop"]}, only=("sentiment", "similarity"))
    recipe["tasks"]["similarity"]["pair"] = {"name": "bi", "features": ["u", {"name": "cosine"}]}
    found = [
        (chosen.place, chosen.registry.room, chosen.name) for chosen in members_of(parse_recipe(recipe, "my.toml"))
    ]
    for wanted in [
        ("encoder", "encoders", "bert"),
        ("aggregate", "aggregates", "mean"),
        ("tasks.sentiment.kind", "kinds", "classification"),
        ("tasks.similarity.pair", "pair modes", "bi"),
        ("tasks.similarity.pair.features", "pair features", "cosine"),
        ("stages.0.aggregator", "aggregators", "pcgrad"),
        ("stages.0.regularizers.1", "regularizers", "rdrop"),
    ]:
        assert wanted in found


def test_what_a_kind_does_not_take_is_passed_over(tiny: Tiny) -> None:
    recipe = tiny(only=("sentiment",))
    recipe["tasks"]["sentiment"] = {"kind": "mlm", "text": "sentence", "train": "sentiment-train.csv"}
    places = {chosen.place for chosen in members_of(parse_recipe(recipe, "my.toml"))}
    assert "tasks.sentiment.kind" in places
    assert not places & {"tasks.sentiment.pooling", "tasks.sentiment.head"}


def test_options_are_changed_where_they_stand(tiny: Tiny) -> None:
    recipe = parse_recipe(tiny(), "my.toml")
    changed = with_members(recipe, lambda chosen: {"dropout": 0.5} if chosen.registry.room == "heads" else None)
    assert {task.head.options["dropout"] for task in changed.tasks.values()} == {0.5}
    assert changed.stages == recipe.stages
    assert {task.head.options["dropout"] for task in recipe.tasks.values()} == {0.1}


def test_a_place_leads_to_its_table_and_room() -> None:
    _, room = at(["tasks", "anything", "head"])
    assert room is not None
    assert room.room == "heads"
    assert at(["seed"])[1] is None
