"""Presets are defaults of a recipe's task, and every one of them builds a task."""

from __future__ import annotations

from typing import Any

import pytest

from polytask.assembly.model import new_task
from polytask.errors import RecipeError
from polytask.recipe.facts import given_labels, new_kind
from polytask.recipe.load import load_recipe
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


def kind_of(preset: str, *overrides: str, **settings: Any) -> Any:
    tables = {"encoder": {}, "tasks": {"mine": {"preset": preset, "train": "a.csv", **settings}}}
    task = load_recipe(tables, overrides).recipe.tasks["mine"]
    assert task.kind is not None
    return task.kind.model_dump()


RANGE = {"name": "regression", "range": [0.0, 5.0]}


@pytest.mark.parametrize(
    ("preset", "kind", "wanted"),
    [
        ("stsb", "regression", RANGE),
        ("stsb", {"name": "regression", "unit": 1.0}, {**RANGE, "unit": 1.0}),
        ("stsb", {"unit": 1.0}, {**RANGE, "unit": 1.0}),
        ("stsb", {"range": [0.0, 1.0]}, {"name": "regression", "range": [0.0, 1.0]}),
        ("sst5", {"focal": 2.0}, {"name": "classification", "focal": 2.0}),
        ("sst5", "ordinal", {"name": "ordinal"}),
    ],
)
def test_options_join_those_of_the_presets_own_kind(preset: str, kind: Any, wanted: dict[str, Any]) -> None:
    assert kind_of(preset, kind=kind) == wanted


def test_an_override_reaches_into_what_a_preset_gives() -> None:
    assert kind_of("stsb", "tasks.mine.kind.unit=1.0") == {**RANGE, "unit": 1.0}
    assert kind_of("sst5", "tasks.mine.kind.focal=2.0") == {"name": "classification", "focal": 2.0}
    assert kind_of("qqp", "tasks.mine.kind.logits=2") == {"name": "binary", "logits": 2}
    assert kind_of("stsb", "tasks.mine.kind=regression") == RANGE


def test_an_override_may_bring_or_change_the_preset() -> None:
    assert kind_of("sst5", "tasks.mine.preset=stsb", "tasks.mine.kind.unit=1.0") == {**RANGE, "unit": 1.0}
    tables = {"encoder": {}, "tasks": {"mine": {"preset": "sst5", "train": "a.csv"}}}
    changed = load_recipe(tables, ["tasks.mine.labels.0=awful", 'tasks.new={ preset = "qqp", train = "b.csv" }']).recipe
    assert changed.tasks["mine"].labels == preset("sst5")["labels"] | {"0": "awful"}
    assert changed.tasks["new"].text == ["sentence1", "sentence2"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": {"focal": 2.0}}, r"tasks\.mine\.kind\.name: is missing; there are 'binary', 'classification', "),
        ({"augment": {"copies": 2}}, r"tasks\.mine\.augment\.name: is missing; there are 'aeda' and 'eda'\."),
    ],
)
def test_where_no_member_is_the_default_the_names_are_told(change: dict[str, Any], told: str) -> None:
    task = {"kind": "classification", "train": "a.csv", "text": "a", "label": "b", **change}
    with pytest.raises(RecipeError, match=told):
        load_recipe({"encoder": {}, "tasks": {"mine": task}})
    stage = {"regularizers": [{"weight": 2.0}]}
    with pytest.raises(RecipeError, match=r"regularizers\.0\.name: is missing; there are 'bregman', "):
        load_recipe({"encoder": {}, "tasks": {"mine": {"preset": "sst5", "train": "a.csv"}}, "stages": [stage]})
