"""Presets are defaults of a recipe's task, and every one of them builds a task."""

from __future__ import annotations

import pytest

from polytask.errors import RecipeError
from polytask.recipe.load import load_recipe
from polytask.recipe.members import given_labels, new_kind, new_task
from polytask.tasks.presets import preset, preset_names, preset_summary

WANTED = {
    "sst5": ("classification", 1, 5),
    "cfimdb": ("binary", 1, 1),
    "qqp": ("binary", 2, 1),
    "stsb": ("regression", 2, 1),
    "nli": ("classification", 2, 3),
}


def test_the_presets_are_those_that_are_examined_here() -> None:
    assert set(preset_names()) == set(WANTED)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds_a_task(name: str) -> None:
    recipe = load_recipe({"encoder": {}, "tasks": {"mine": {"preset": name, "train": "a.csv"}}}).recipe
    settings = recipe.tasks["mine"]
    kind, columns, outputs = WANTED[name]
    assert settings.kind is not None
    task = new_task("mine", settings, given_labels(settings), 128)
    assert settings.kind.name == kind
    assert len(task.text) == columns
    assert task.kind.outputs == outputs
    assert task.pair == ("single" if columns == 1 else "cross")


@pytest.mark.parametrize("name", ["sst5", "cfimdb", "qqp"])
def test_the_course_files_spell_labels_as_floats(name: str) -> None:
    recipe = load_recipe({"encoder": {}, "tasks": {"mine": {"preset": name, "train": "a.csv"}}}).recipe
    kind = new_kind(recipe.tasks["mine"], given_labels(recipe.tasks["mine"]))
    assert [kind.encode(f"{code}.0") for code in range(len(kind.names))] == list(range(len(kind.names)))


def test_a_recipe_has_the_last_word() -> None:
    tables = {"encoder": {}, "tasks": {"mine": {"preset": "sst5", "train": "a.csv", "text": "review"}}}
    settings = load_recipe(tables).recipe.tasks["mine"]
    assert settings.text == "review"
    assert settings.label == "sentiment"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_explains_itself_on_its_first_line(name: str) -> None:
    assert preset_summary(name).endswith(".")
    assert not preset_summary(name).startswith("#")
    assert {"kind", "text", "label"} <= preset(name).keys()


def test_an_unknown_preset_is_told_the_nearest_and_all() -> None:
    with pytest.raises(RecipeError, match=r"'sst' is not a preset\. Did you mean 'sst5'\? There are 'cfimdb', "):
        preset("sst")
    with pytest.raises(RecipeError, match=r"tasks\.mine.preset: 'qpq' is not a preset"):
        load_recipe({"encoder": {}, "tasks": {"mine": {"preset": "qpq", "train": "a.csv"}}})
