"""Recipes are read strictly: what is wrong is told all at once, by its place, with the near miss."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from polytask.errors import RecipeError
from polytask.recipe import settings as config
from polytask.recipe.load import load_recipe
from polytask.recipe.reading import parse_recipe
from polytask.recipe.settings import Member, Recipe
from polytask.recipe.toml import apply_overrides, read_toml, to_toml

RECIPE = """
seed = 3
data = "tables"

[encoder]
checkpoint = "minilm"
dropout = 0.0

[tasks.sst]
kind = "classification"
train = "sst-train.csv"
dev = 0.1
text = "sentence"
label = "sentiment"
labels = { 0 = "bad", 1 = "good" }
head = "mlp"

[tasks.sts]
kind = { name = "regression", range = [0.0, 5.0] }
train = [{ a = "x", b = "y", s = 1 }]
text = ["a", "b"]
label = "s"
pair = { name = "bi", features = ["u", "v", { name = "cosine" }] }

[[stages]]
train = "heads"
steps = 10

[[stages]]
train = { last = 2 }
epochs = 2.5
tasks = ["sst"]
schedule = "cosine"
optimizer = { name = "adam", betas = [0.8, 0.99] }
early_stopping = { patience = 2 }
mixing = { name = "temperature", tau = 3.0 }

[[stages.regularizers]]
name = "rdrop"
alpha = 2.0
weight = { sst = 5.0 }
"""


@pytest.fixture
def tables() -> dict[str, Any]:
    return tomllib.loads(RECIPE)


def told(tables: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(tables)
    return str(caught.value)


def put(tables: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the tables with a value at a path; numbers pick from lists."""
    tables = copy.deepcopy(tables)
    *above, key = path.split(".")
    place: Any = tables
    for part in above:
        place = place[int(part)] if part.isdigit() else place[part]
    place[key] = value
    return tables


def test_a_recipe_reads_as_it_is_written(tables: dict[str, Any]) -> None:
    recipe = parse_recipe(tables, "my.toml")
    assert recipe.seed == 3
    assert recipe.tasks["sst"].head == Member(name="mlp")
    assert recipe.tasks["sts"].kind is not None
    assert recipe.tasks["sts"].kind.options == {"range": [0.0, 5.0]}
    assert recipe.stages[1].schedule.name == "cosine"
    assert recipe.stages[1].optimizer.betas == (0.8, 0.99)
    assert recipe.stages[1].regularizers[0].options == {"alpha": 2.0}
    assert recipe.stages[1].regularizers[0].weight == {"sst": 5.0}


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        ("sead", "seed"),
        ("encoder.chekpoint", "checkpoint"),
        ("tasks.sst.lable", "label"),
        ("stages.0.learnig_rate", "learning_rate"),
        ("stages.1.train.lst", "last"),
        ("stages.1.early_stopping.patients", "patience"),
        ("stages.1.optimizer.beta", "betas"),
    ],
)
def test_an_unknown_key_is_told_by_its_place_with_the_nearest(tables: dict[str, Any], place: str, meant: str) -> None:
    above, _, key = place.rpartition(".")
    lines = [line for line in told(put(tables, place, 1)).split("\n") if line.startswith(f"  {above}")]
    assert any(line.endswith(f"{key}: there is no such key. Did you mean '{meant}'?") for line in lines)


def test_an_unknown_key_of_a_schedule_is_told(tables: dict[str, Any]) -> None:
    tables["stages"][0]["schedule"] = {"name": "linear", "warm_up": 0.1}
    assert "stages.0.schedule.warm_up: there is no such key. Did you mean 'warmup'?" in told(tables)


@pytest.mark.parametrize("name", ["train", "schedule", "optimizer", "early_stopping", "stages", "encoder"])
def test_a_task_may_be_called_like_a_table(tables: dict[str, Any], name: str) -> None:
    tables["tasks"] = {name: tables["tasks"]["sst"]}
    parse_recipe(tables, "my.toml")
    tables["tasks"][name]["lable"] = "x"
    assert f"tasks.{name}.lable: there is no such key. Did you mean 'label'?" in told(tables)


def test_everything_wrong_is_told_at_once(tables: dict[str, Any]) -> None:
    tables["sead"] = 1
    tables["tasks"]["sst"]["weight"] = -1
    tables["tasks"]["sts"]["poling"] = "mean"
    tables["stages"][0]["epochs"] = "3"
    tables["stages"][1]["batch_size"] = 0
    del tables["encoder"]
    lines = told(tables).split("\n")
    assert lines[0] == "The mapping is not a valid recipe:"
    for place in ("sead", "tasks.sst.weight", "tasks.sts.poling", "stages.0.epochs", "stages.1.batch_size", "encoder"):
        assert sum(line.startswith(f"  {place}: ") for line in lines) == 1, place
    assert "  encoder: is missing." in lines
    assert "  stages.0.epochs: is '3'; wanted a number." in lines


def test_of_very_many_problems_fifty_are_told_and_the_rest_counted(tables: dict[str, Any]) -> None:
    tables["encoder"] |= {f"unknown{n}": n for n in range(53)}
    lines = told(tables).split("\n")
    assert len(lines) == 52
    assert lines[-1] == "  … and 3 more"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("seed", -1),
        ("seed", "three"),
        ("format", 2),
        ("precision", "fp16"),
        ("encoder.dropout", 1.0),
        ("encoder.dropout", -0.1),
        ("encoder.layers", 0),
        ("tasks.sst.max_length", 3),
        ("tasks.sst.bad_rows", "ignore"),
        ("tasks.sst.weight", 0),
        ("tasks.sst.head", 3),
        ("tasks.sst.kind", {"focal": 2}),
        ("tasks", {}),
        ("stages", []),
        ("stages.0.train", "tops"),
        ("stages.0.train", {"last": 0}),
        ("stages.0.learning_rate", 0),
        ("stages.0.clip", -1),
        ("stages.0.schedule", "quadratic"),
    ],
)
def test_a_value_that_cannot_be_is_told_by_its_place(tables: dict[str, Any], place: str, value: Any) -> None:
    assert f"  {place}" in told(put(tables, place, value))


def test_a_resolved_recipe_survives_the_way_through_toml(tables: dict[str, Any]) -> None:
    recipe = parse_recipe(tables, "my.toml")
    text = to_toml(recipe)
    assert parse_recipe(tomllib.loads(text), "again") == recipe
    assert to_toml(parse_recipe(tomllib.loads(text), "again")) == text


def test_a_resolved_recipe_shows_every_default_that_is_something(tables: dict[str, Any]) -> None:
    written = tomllib.loads(to_toml(parse_recipe(tables, "my.toml")))
    assert written["format"] == config.FORMAT
    assert written["checkpoint_every"] == 500
    assert written["tasks"]["sst"]["pair"] == {"name": "cross"}
    assert "pooling" not in written["tasks"]["sst"]  # the encoder's, which is yet to be read
    assert written["stages"][0]["schedule"]["warmup"] == 0.1
    assert "max_length" not in written["tasks"]["sst"]


def test_notes_lie_in_a_table_of_their_own(tables: dict[str, Any]) -> None:
    written = tomllib.loads(to_toml(parse_recipe(tables, "my.toml"), {"torch": "2.13", "nothing": None}))
    assert written["resolved"] == {"torch": "2.13"}


@pytest.mark.parametrize(
    ("override", "place", "wanted"),
    [
        ("seed=7", ("seed",), 7),
        ("seed = 7", ("seed",), 7),
        ("data=elsewhere", ("data",), "elsewhere"),
        ('data="7"', ("data",), "7"),
        ("data=a=b", ("data",), "a=b"),
        ("data=", ("data",), ""),
        ("stages.0.learning_rate=1e-3", ("stages", 0, "learning_rate"), 1e-3),
        ("stages.1.tasks=['sst', 'sts']", ("stages", 1, "tasks"), ["sst", "sts"]),
        ("stages.1.train=all", ("stages", 1, "train"), "all"),
        ("stages.1.train.last=3", ("stages", 1, "train", "last"), 3),
        ("stages.1.regularizers.0.alpha=9", ("stages", 1, "regularizers", 0, "alpha"), 9),
        ("tasks.sst.head.layers=3", ("tasks", "sst", "head"), {"name": "mlp", "layers": 3}),
        ("stages.1.schedule.warmup=5", ("stages", 1, "schedule"), {"name": "cosine", "warmup": 5}),
        ("tasks.sst.pooling.name=max", ("tasks", "sst", "pooling"), {"name": "max"}),
        (
            "tasks.sts.pair={ name = 'cross', types = false }",
            ("tasks", "sts", "pair"),
            {"name": "cross", "types": False},
        ),
        ("tasks.new.preset=qqp", ("tasks", "new"), {"preset": "qqp"}),
    ],
)
def test_an_override_lands_in_its_place_and_nowhere_else(
    tables: dict[str, Any], override: str, place: tuple[str | int, ...], wanted: Any
) -> None:
    before = copy.deepcopy(tables)
    after: Any = apply_overrides(tables, [override])
    assert tables == before
    found = after
    for part in place:
        found = found[part]
    assert found == wanted
    assert type(found) is type(wanted)
    others = {key for key in after if key != place[0]}
    assert all(after[key] == before[key] for key in others)


def test_an_override_makes_the_first_stage_where_there_is_none() -> None:
    assert apply_overrides({}, ["stages.0.epochs=1"]) == {"stages": [{"epochs": 1}]}


def test_overrides_apply_in_order(tables: dict[str, Any]) -> None:
    assert apply_overrides(tables, ["seed=1", "seed=2"])["seed"] == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "An override is KEY=VALUE"),
        ("=3", "An override is KEY=VALUE"),
        ("stages.2.epochs=1", "'2' should be a number below 2"),
        ("stages.first.epochs=1", "'first' should be a number below 2"),
        ("seed.x=1", "there is nothing below '3'"),
    ],
)
def test_an_override_without_a_place_is_refused(tables: dict[str, Any], override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        apply_overrides(tables, [override])


def test_a_syntax_error_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("seed = 3\n[encoder\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"my\.toml is not TOML: .*line 2"):
        read_toml(path)


def test_a_missing_recipe_is_told_the_nearest_file(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"There is no recipe .*recpe\.toml\. Did you mean 'recipe\.toml'\?"):
        read_toml(tmp_path / "recpe.toml")
    with pytest.raises(RecipeError, match="There is no recipe"):
        read_toml(tmp_path / "none" / "recipe.toml")


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_recipe_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "my.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"my\.toml cannot be read"):
        read_toml(path)


def all_settings() -> list[type[BaseModel]]:
    found = [value for value in vars(config).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    return [value for value in found if value not in (BaseModel, Member)]


@pytest.mark.parametrize("table", all_settings(), ids=lambda table: str(table.__name__))
def test_every_field_has_a_sentence_that_is_its_help(table: type[BaseModel]) -> None:
    for name, field in table.model_fields.items():
        if table is config.RegularizerSettings:
            continue
        assert field.description, f"{table.__name__}.{name}"
        assert field.description.rstrip().endswith((".", '"', ")")), f"{table.__name__}.{name}"


def test_settings_cannot_be_changed_behind_a_run(tables: dict[str, Any]) -> None:
    recipe: Any = parse_recipe(tables, "my.toml")
    assert isinstance(recipe, Recipe)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 4


@pytest.mark.parametrize(
    ("place", "options", "wanted"),
    [
        ("tasks.sts.head", {"dropout": 0.5}, {"name": "linear", "dropout": 0.5}),
        ("tasks.sst.pair", {"types": False}, {"name": "cross", "types": False}),
        ("stages.0.mixing", {"until": "shortest"}, {"name": "proportional", "until": "shortest"}),
        ("stages.0.balance", {"temperature": 2.0}, {"name": "fixed", "temperature": 2.0}),
        ("stages.0.aggregator", {"c": 0.5}, {"name": "sum", "c": 0.5}),
    ],
)
def test_options_without_a_name_are_the_default_members(
    place: str, options: dict[str, Any], wanted: dict[str, Any]
) -> None:
    room, which, field = place.split(".")
    tables = tomllib.loads(RECIPE)
    table = tables[room][which if room == "tasks" else int(which)]
    table[field] = options
    assert at(parse_recipe(tables, "mine"), place).model_dump() == wanted
    del table[field]
    overrides = [f"{place}.{key}={json.dumps(value)}" for key, value in options.items()]
    assert at(parse_recipe(apply_overrides(tables, overrides), "mine"), place).model_dump() == wanted


def at(recipe: Recipe, place: str) -> Any:
    room, which, field = place.split(".")
    return getattr(recipe.tasks[which] if room == "tasks" else recipe.stages[int(which)], field)


def test_a_regularizer_may_be_a_bare_name() -> None:
    tables = tomllib.loads(RECIPE)
    tables["stages"][0]["regularizers"] = ["smart"]
    (smart,) = parse_recipe(tables, "mine").stages[0].regularizers
    assert (smart.name, smart.weight, smart.options) == ("smart", 1.0, {})
    changed = parse_recipe(apply_overrides(tables, ["stages.0.regularizers.0.weight=2.0"]), "mine")
    assert changed.stages[0].regularizers[0].weight == 2.0


def test_what_is_wrong_is_told_beside_missing_tasks(tables: dict[str, Any]) -> None:
    del tables["tasks"]
    tables["encoder"]["layrs"] = 2
    tables["stages"][1] |= {"steps": 3}
    assert told(tables).splitlines()[1:] == [
        "  tasks: is missing.",
        "  encoder.layrs: there is no such key. Did you mean 'layers'?",
        "  stages.1: a stage takes 'epochs' or 'steps', not both.",
    ]
