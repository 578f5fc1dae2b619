"""What `polytask show` prints, and what a run keeps: every option of every member, by name."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polytask.assembly.opened import open_run
from polytask.jobs.train import train
from polytask.recipe.load import bundled, load_recipe
from polytask.recipe.rooms import ROOMS
from polytask.recipe.settings import Member, Recipe
from polytask.recipe.show import spelt_out
from polytask.recipe.toml import to_toml
from polytask.registry import Registry

Tiny = Callable[..., dict[str, Any]]
REGISTRIES = {registry.room: registry for registry in ROOMS}
TASK = {"kind": "kinds", "pooling": "poolings", "head": "heads", "augment": "augmentations"}
STAGE = {"mixing": "mixing", "balance": "balance", "aggregator": "aggregators"}


def members(recipe: Recipe) -> list[tuple[Registry[Any], Member]]:
    """Return every member that a recipe names, with its room."""
    found = [(REGISTRIES[room], getattr(task, key)) for task in recipe.tasks.values() for key, room in TASK.items()]
    found += [(REGISTRIES[room], getattr(stage, key)) for stage in recipe.stages for key, room in STAGE.items()]
    found += [
        (REGISTRIES["regularizers"], Member(name=penalty.name, **penalty.options))
        for stage in recipe.stages
        for penalty in stage.regularizers
    ]
    return [(registry, member) for registry, member in found if member is not None]


def full(tiny: Tiny) -> dict[str, Any]:
    recipe = tiny(
        {"steps": 2, "mixing": "joint", "aggregator": "cagrad", "balance": "dwa"},
        {
            "steps": 2,
            "mixing": "temperature",
            "regularizers": [{"name": name} for name in ("smart", "bregman", "rdrop")],
        },
    )
    recipe["tasks"]["sentiment"] |= {"head": "mlp", "augment": "eda", "pooling": "attention"}
    recipe["tasks"]["words"] = {"kind": "mlm", "rows_from": "sentiment"}
    recipe["tasks"]["pairs"] = {"kind": "ranking", "rows_from": "paraphrase"}
    return recipe


def test_every_option_is_spelt_out(tiny: Tiny) -> None:
    shown = spelt_out(load_recipe(full(tiny)).recipe)
    del shown.tasks["words"], shown.tasks["pairs"]  # they have no head, and a language model has no pooling
    found = members(shown)
    assert {registry.room for registry, _ in found} == {*TASK.values(), *STAGE.values(), "regularizers"}
    for registry, member in found:
        known = registry.options(member.name)
        assert member.options.keys() == {name for name, option in known.items() if option.default is not None}
    assert shown.tasks["similarity"].pair.options == {"features": ["u", "v", "abs_difference"], "dropout": 0.0}
    assert shown.tasks["paraphrase"].pair.options == {"types": True}


@pytest.mark.parametrize("name", bundled())
def test_bundled_recipes_say_the_same_spelt_out(name: str, tmp_path: Path) -> None:
    shown = spelt_out(load_recipe(name).recipe)
    (tmp_path / "shown.toml").write_text(to_toml(shown), encoding="utf-8")
    assert load_recipe(tmp_path / "shown.toml").recipe == shown == spelt_out(shown)


def test_a_recipe_with_everything_says_the_same_spelt_out(tiny: Tiny) -> None:
    shown = spelt_out(load_recipe(full(tiny)).recipe)
    assert load_recipe(tomllib.loads(to_toml(shown))).recipe == shown == spelt_out(shown)


def test_a_run_keeps_its_recipe_spelt_out_and_what_train_settled_apart(tiny: Tiny, tmp_path: Path) -> None:
    run = train(tiny({"steps": 1}), tmp_path / "run").folder
    written = tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8"))
    kind = written["tasks"]["similarity"]["kind"]
    assert kind == {"name": "regression", "range": [0.0, 5.0], "output": "standard"}
    settled = written["resolved"]["settled"]
    assert settled.keys() == {"similarity"}
    assert settled["similarity"].keys() == {"unit", "center"}
    opened, again = (
        loaded.recipe.tasks["similarity"] for loaded in (open_run(run)[1], load_recipe(run / "recipe.toml"))
    )
    assert opened.kind == Member(**kind, **settled["similarity"])
    assert again.kind == Member(**kind)  # other tables will settle it anew
