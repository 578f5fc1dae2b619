"""A recipe becomes parts: everything that is wrong with it is told at once, and what is right is built as written."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from polytask.assembly.parts import Parts, build
from polytask.encoder.bert import Bert
from polytask.encoder.lstm import BiLstm
from polytask.errors import RecipeError, TableError
from polytask.recipe.load import bundled, load_recipe
from polytask.recipe.reading import parse_recipe
from polytask.recipe.toml import read_toml, to_toml
from polytask.tasks.presets import preset, preset_names

Tiny = Callable[..., dict[str, Any]]


def built(recipe: Mapping[str, Any], overrides: Iterable[str] = ()) -> Parts:
    return build(load_recipe(recipe, overrides))


def refused(recipe: Mapping[str, Any], overrides: Iterable[str] = ()) -> str:
    with pytest.raises(RecipeError) as raised:
        load_recipe(recipe, overrides)
    return str(raised.value)


# -- problems --------------------------------------------------------------------------------------------------------


def test_every_mistyped_key_and_value_is_told_at_once(tiny: Tiny) -> None:
    recipe = tiny({"epochs": -1, "learning_rat": 1e-3})
    recipe["sed"] = 3
    recipe["encoder"]["layer"] = 2
    recipe["tasks"]["sentiment"]["lable"] = "sentiment"
    told = refused(recipe)
    assert "sed: there is no such key. Did you mean 'seed'?" in told
    assert "encoder.layer: there is no such key. Did you mean 'layers'?" in told
    assert "tasks.sentiment.lable: there is no such key. Did you mean 'label'?" in told
    assert "stages.0.learning_rat: there is no such key. Did you mean 'learning_rate'?" in told
    assert "stages.0.epochs" in told
    assert len(told.splitlines()) == 6


def test_every_wrong_member_and_option_is_told_at_once(tiny: Tiny) -> None:
    recipe = tiny(
        {"mixing": "jiont", "regularizers": [{"name": "rdrop", "alfa": 1.0}]},
        {"tasks": ["sentimnt"]},
        {"regularizers": [{"name": "rdrop", "weight": {"cinema": 1.0}}], "balance": "fixd"},
    )
    tasks = recipe["tasks"]
    tasks["sentiment"] |= {"head": {"name": "mlp", "layer": 2}, "pooling": "men", "kind": "clasification"}
    tasks["paraphrase"] |= {"pair": "crss"}
    tasks["similarity"] |= {"text": "sentence1", "head": {"name": "mlp", "layers": "two"}}
    told = refused(recipe)
    for line in (
        "tasks.sentiment.kind: 'clasification' is not one of the kinds. Did you mean 'classification'?",
        "tasks.sentiment.pooling: 'men' is not one of the poolings. Did you mean",
        "tasks.sentiment.head.layer: 'mlp' of the heads takes no option 'layer'. Did you mean 'layers'?",
        "tasks.paraphrase.pair: 'crss' is not one of the pair modes. Did you mean 'cross'?",
        "tasks.similarity.pair: a task with one text column has no pair",
        "tasks.similarity.head.layers: option 'layers' of 'mlp' is 'two'",
        "stages.0.mixing: 'jiont' is not one of the mixing policies. Did you mean 'joint'?",
        "stages.0.regularizers.0.alfa: 'rdrop' of the regularizers takes no option 'alfa'. Did you mean 'alpha'?",
        "stages.1.tasks: there is no task 'sentimnt'. Did you mean 'sentiment'?",
        "stages.2.regularizers.0: 'rdrop' has a weight for 'cinema', which is no task of this stage.",
        "stages.2.balance: 'fixd' is not one of the loss balances. Did you mean 'fixed'?",
    ):
        assert line in told, told


@pytest.mark.parametrize("mixing", ["proportional", "round_robin", "sequential", "temperature", "annealed"])
def test_surgery_on_steps_of_one_task_is_refused_with_the_reason(tiny: Tiny, mixing: str) -> None:
    told = refused(tiny({"mixing": mixing, "aggregator": "pcgrad"}))
    assert f"the mixing '{mixing}' puts one task in a step" in told
    assert 'Use mixing = "joint"' in told


def test_surgery_is_let_through_where_it_means_something(tiny: Tiny) -> None:
    load_recipe(tiny({"mixing": "joint", "aggregator": "pcgrad"}))
    load_recipe(tiny({"mixing": "proportional", "aggregator": "mean"}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train": None}, "tasks.sentiment.train: is missing"),
        ({"text": None}, "tasks.sentiment.text: is missing"),
        ({"label": None}, "tasks.sentiment.label: is missing"),
        ({"kind": None}, "tasks.sentiment.kind: is missing"),
        ({"text": ["a", "b", "c"]}, "tasks.sentiment.text: names 3 columns"),
        ({"dev": 1.5}, "tasks.sentiment.dev: is 1.5; a share of train lies between 0 and 1"),
        ({"kind": "regression"}, "needs the option 'range'"),
        ({"kind": {"name": "regression", "range": [5.0, 0.0]}}, "its first number must be the smaller one"),
        ({"pair": {"name": "bi"}}, "a task with one text column has no pair"),
        ({"preset": "sst6"}, "'sst6' is not a preset. Did you mean 'sst5'?"),
    ],
)
def test_a_task_that_cannot_be_built_says_why(tiny: Tiny, change: dict[str, Any], told: str) -> None:
    recipe = tiny()
    recipe["tasks"]["sentiment"] |= change
    assert told in refused(recipe)


@pytest.mark.parametrize("name", ["a/b", "..", "a.b", "", "a b", "-x", "type", "train", "forward", "items"])
def test_a_task_whose_name_would_lead_astray_is_refused(tiny: Tiny, name: str) -> None:
    recipe = tiny(only=("sentiment",))
    recipe["tasks"][name] = recipe["tasks"].pop("sentiment")
    assert f"tasks.{name}: " in refused(recipe)


@pytest.mark.parametrize("name", ["type_task", "Ähnlichkeit", "sst-5", "2nd"])
def test_a_task_may_have_any_other_name(tiny: Tiny, tmp_path: Path, name: str) -> None:
    recipe = tiny(only=("sentiment",))
    recipe["tasks"][name] = recipe["tasks"].pop("sentiment")
    assert list(built(recipe).model.heads) == [name]


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        ({"checkpoint": "x", "layers": 2}, "'layers' cannot be chosen with a checkpoint"),
        ({"checkpoint": "x", "architecture": "lstm"}, "an lstm is trained from scratch"),
        ({"architecture": "auto"}, 'architecture = "auto" needs a checkpoint'),
    ],
)
def test_an_encoder_that_contradicts_itself_is_refused(tiny: Tiny, encoder: dict[str, Any], told: str) -> None:
    assert told in refused(tiny() | {"encoder": encoder})


def test_a_width_that_heads_do_not_divide_is_a_recipes_error(tiny: Tiny) -> None:
    with pytest.raises(RecipeError, match="width of 32 cannot be divided among 5 heads"):
        built(tiny(), ["encoder.heads=5"])


def test_all_tables_that_are_wrong_are_told_at_once(tiny: Tiny) -> None:
    recipe = tiny()
    recipe["tasks"]["sentiment"]["train"] = "sentiment-trian.csv"
    recipe["tasks"]["paraphrase"]["label"] = "duplicate"
    with pytest.raises(TableError) as raised:
        built(recipe)
    assert "sentiment-trian.csv does not exist. Did you mean 'sentiment-train.csv'?" in str(raised.value)
    assert "has no column 'duplicate'. Did you mean 'is_duplicate'?" in str(raised.value)


def test_a_longer_input_than_the_encoder_takes_is_refused(tiny: Tiny) -> None:
    with pytest.raises(RecipeError, match=r"tasks\.sentiment\.max_length: is 513; the encoder takes 512 tokens"):
        built(tiny(), ["tasks.sentiment.max_length=513"])


def test_a_single_text_cannot_be_symmetric(tiny: Tiny) -> None:
    recipe = tiny()
    for symmetric in (True, {"consistency": 0.5}):
        recipe["tasks"]["sentiment"]["symmetric"] = symmetric
        assert "tasks.sentiment.symmetric: a task with one text column has no order" in refused(recipe)
    recipe["tasks"]["sentiment"]["symmetric"] = False
    load_recipe(recipe)
    told = refused(recipe, ["tasks.paraphrase.symmetric.consistenzy=1.0"])
    assert "consistenzy: there is no such key. Did you mean 'consistency'?" in told


def test_symmetry_is_a_switch_or_a_weight(tiny: Tiny) -> None:
    recipe = tiny()
    recipe["tasks"]["paraphrase"]["symmetric"] = True
    recipe["tasks"]["similarity"]["symmetric"] = {"consistency": 0.25}
    tasks = built(recipe).tasks
    assert [task.consistency for task in tasks.values()] == [None, 1.0, 0.25]


def test_an_own_encoder_cannot_bear_the_common_ones_name(tiny: Tiny) -> None:
    recipe = tiny()
    recipe["tasks"]["shared"] = {**recipe["tasks"]["sentiment"], "encoder": "own"}
    assert "tasks.shared.encoder: an encoder of its own would be called 'shared'" in refused(recipe)
    recipe["tasks"]["shared"]["encoder"] = "shared"
    load_recipe(recipe)


def test_a_stage_that_may_stop_early_needs_a_dev_table_of_its_own_tasks(tiny: Tiny) -> None:
    recipe = tiny({"tasks": ["sentiment"], "early_stopping": {"patience": 1}})
    del recipe["tasks"]["sentiment"]["dev"]
    assert "stages.0.early_stopping: 'sentiment' has no dev table" in refused(recipe)


# -- what is built ---------------------------------------------------------------------------------------------------


def test_dropout_of_a_new_encoder_reaches_attention(tiny: Tiny) -> None:
    encoder = built(tiny(drop=0.3)).model.encoders["shared"]
    assert isinstance(encoder, Bert)
    assert (encoder.dropout, encoder.attention_dropout) == (0.3, 0.3)


def test_the_same_seed_draws_the_same_weights_whatever_was_drawn_before(tiny: Tiny) -> None:
    one = built(tiny()).model
    torch.rand(99)
    other, third = built(tiny()).model, built(tiny(seed=1)).model
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name))
    assert not torch.equal(
        one.get_parameter("heads.sentiment.head.output.weight"),
        third.get_parameter("heads.sentiment.head.output.weight"),
    )


def test_a_head_is_drawn_alike_whoever_stands_beside_it(tiny: Tiny) -> None:
    alone, together = built(tiny(only=("similarity",))).model, built(tiny()).model
    name = "heads.similarity.head.output.weight"
    assert torch.equal(alone.get_parameter(name), together.get_parameter(name))


def test_an_lstm_is_an_encoder_like_the_others(tiny: Tiny) -> None:
    parts = built(tiny() | {"encoder": {"architecture": "lstm", "width": 8, "hidden": 6, "dropout": 0.0}})
    assert isinstance(parts.model.encoders["shared"], BiLstm)
    assert parts.model.encoders["shared"].width == 12


def test_units_of_scores_are_those_of_what_is_learned_from_alone(tiny: Tiny) -> None:
    recipe = tiny(only=("similarity",))
    recipe["tasks"]["similarity"] |= {"dev": 0.1, "max_rows": 40}
    parts = built(recipe)
    labels_N, dev_N = parts.train_rows["similarity"].labels_N, parts.dev_rows["similarity"].labels_N
    assert labels_N is not None
    assert dev_N is not None
    assert (len(labels_N), len(dev_N)) == (40, 6)
    found = {"unit": labels_N.double().std(correction=0).item(), "center": labels_N.double().mean().item()}
    assert parts.settled == {"similarity": pytest.approx(found)}
    assert torch.cat([labels_N, dev_N]).mean() != pytest.approx(found["center"])


def test_labels_are_read_off_the_training_table(tiny: Tiny) -> None:
    parts = built(tiny())
    assert parts.tasks["sentiment"].kind.names == ["0", "1", "2", "3", "4"]
    assert parts.recipe.tasks["sentiment"].labels == {str(n): str(n) for n in range(5)}
    assert parts.recipe.tasks["similarity"].labels is None


def test_labels_may_be_a_list_or_a_table_of_names(tiny: Tiny) -> None:
    backwards = ["4", "3", "2", "1", "0"]
    recipe = tiny(only=("sentiment",))
    recipe["tasks"]["sentiment"]["labels"] = backwards
    listed = built(recipe)
    assert listed.tasks["sentiment"].kind.spellings == listed.tasks["sentiment"].kind.names == backwards
    recipe["tasks"]["sentiment"]["labels"] = {label: f"level {label}" for label in backwards}
    named = built(recipe)
    assert named.tasks["sentiment"].kind.names[0] == "level 4"
    codes = [parts.train_rows["sentiment"].labels_N for parts in (listed, named, built(tiny(only=("sentiment",))))]
    assert codes[0] is not None
    assert codes[1] is not None
    assert codes[2] is not None
    assert torch.equal(codes[0], codes[1])
    assert torch.equal(codes[0], 4 - codes[2])


def test_a_label_that_a_recipe_does_not_list_is_an_error_that_names_the_row(tiny: Tiny) -> None:
    recipe = tiny(only=("sentiment",))
    recipe["tasks"]["sentiment"]["labels"] = ["0", "1", "2", "3"]
    with pytest.raises(TableError, match=r"line \d+, column 'sentiment': '4' is not one of the labels"):
        built(recipe)
    recipe["tasks"]["sentiment"]["bad_rows"] = "skip"
    notes: list[str] = []
    parts = build(load_recipe(recipe), notes.append)
    assert 0 < len(parts.train_rows["sentiment"]) < 60
    assert any("rows are skipped" in note for note in notes)


def test_a_share_of_train_becomes_dev(tiny: Tiny) -> None:
    parts = built(tiny(), ["tasks.sentiment.dev=0.1", "tasks.paraphrase.dev=0.5"])
    for task, share in (("sentiment", 0.1), ("paraphrase", 0.5)):
        train, dev = set(parts.train_rows[task].ids), set(parts.dev_rows[task].ids)
        assert not train & dev
        assert len(train | dev) == 60
        assert len(dev) == pytest.approx(60 * share, abs=3)
    again = built(tiny(), ["tasks.sentiment.dev=0.1", "tasks.paraphrase.dev=0.5"])
    assert again.dev_rows["sentiment"].ids == parts.dev_rows["sentiment"].ids


def test_no_text_of_dev_is_learnt_by_another_task(tiny: Tiny) -> None:
    recipe = tiny(only=("sentiment",))
    table = recipe["tasks"]["sentiment"]["train"]
    recipe["tasks"]["sentiment"]["dev"] = 0.2
    recipe["tasks"]["again"] = recipe["tasks"]["sentiment"] | {"dev": 0.3}
    recipe["tasks"]["whole"] = recipe["tasks"]["sentiment"] | {"dev": None}
    notes: list[str] = []
    parts = build(load_recipe(recipe), notes.append)
    held = set(parts.dev_rows["sentiment"].ids) | set(parts.dev_rows["again"].ids)
    for task in ("sentiment", "again", "whole"):
        assert not held & set(parts.train_rows[task].ids), table
    assert any("Task 'whole': " in note and "rows of train are left out" in note for note in notes)


def test_a_given_dev_table_that_overlaps_train_is_told(tiny: Tiny) -> None:
    recipe = tiny(only=("sentiment",))
    recipe["tasks"]["sentiment"]["dev"] = recipe["tasks"]["sentiment"]["train"]
    notes: list[str] = []
    build(load_recipe(recipe), notes.append)
    assert any("60 of the 60 rows of dev have a text that train has as well" in note for note in notes)


def test_a_column_for_each_label(tiny: Tiny) -> None:
    rows = [{"text": f"text {n}", "joy": n % 2, "fear": str(n % 3 == 0)} for n in range(40)]
    recipe = tiny(only=("sentiment",))
    recipe["tasks"] = {
        "moods": {"kind": "multilabel", "train": rows, "dev": 0.2, "text": "text", "label": ["joy", "fear"]},
    }
    parts = build(load_recipe(recipe))
    assert parts.tasks["moods"].kind.spellings == ["joy", "fear"]
    rows[3]["joy"] = 2
    with pytest.raises(TableError, match="row 4, column 'joy': '2' is neither 0 nor 1"):
        build(load_recipe(recipe))


def test_fewer_rows_may_be_asked_for(tiny: Tiny) -> None:
    parts = built(tiny(), ["tasks.sentiment.max_rows=13", "tasks.sentiment.dev_rows=7", "tasks.paraphrase.sample=24"])
    assert (len(parts.train_rows["sentiment"]), len(parts.dev_rows["sentiment"])) == (13, 7)
    assert len(parts.train_rows["paraphrase"]) == 60
    assert parts.stages[0].plan.streams["paraphrase"].per_pass == 3
    assert parts.stages[0].plan.streams["sentiment"].per_pass == 2


def test_what_is_cut_off_is_told(tiny: Tiny) -> None:
    notes: list[str] = []
    parts = build(load_recipe(tiny(), ["tasks.paraphrase.max_length=12"]), notes.append)
    assert parts.train_rows["paraphrase"].truncated > 0
    assert any("Task 'paraphrase', train:" in note and "longer than 12 tokens" in note for note in notes)
    assert max(int(rows.lengths.max()) for rows in (parts.train_rows["paraphrase"], parts.dev_rows["paraphrase"])) == 12


# -- where tables lie ------------------------------------------------------------------------------------------------


def test_relative_paths_start_at_the_recipes_folder(
    tiny: Tiny, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tables, tmp_path / "study" / "tables")
    (tmp_path / "elsewhere").mkdir()
    recipe = tiny(only=("sentiment",))
    for data, prefix in (("tables", ""), (None, "tables/")):
        recipe["data"] = data
        recipe["tasks"]["sentiment"] |= {split: f"{prefix}sentiment-{split}.csv" for split in ("train", "dev")}
        (tmp_path / "study" / "recipe.toml").write_text(to_toml(parse_recipe(recipe, "r")), encoding="utf-8")
        for folder, path in (("study", "recipe.toml"), ("elsewhere", "../study/recipe.toml")):
            monkeypatch.chdir(tmp_path / folder)
            parts = build(load_recipe(path))
            assert len(parts.train_rows["sentiment"]) == 60
            assert parts.recipe.tasks["sentiment"].train == str(tmp_path / "study" / "tables" / "sentiment-train.csv")


def test_an_error_shows_a_tables_path_as_a_person_would_write_it(
    tiny: Tiny, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tiny(only=("sentiment",)) | {"data": "none"}
    with pytest.raises(TableError, match=r"^none/sentiment-train\.csv does not exist"):
        built(recipe)


# -- presets and bundled recipes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sst5", "cfimdb", "qqp", "stsb", "nli"])
def test_a_preset_fills_in_what_a_task_leaves_open(name: str) -> None:
    assert name in preset_names()
    recipe = load_recipe({"encoder": {}, "tasks": {"t": {"preset": name, "train": "t.csv"}}}).recipe
    given = preset(name)
    assert recipe.tasks["t"].text == given["text"]
    assert recipe.tasks["t"].label == given["label"]
    own = load_recipe({"encoder": {}, "tasks": {"t": {"preset": name, "train": "t.csv", "label": "mine"}}}).recipe
    assert own.tasks["t"].label == "mine"
    assert own.tasks["t"].text == given["text"]


def test_a_preset_trains_on_a_table_of_its_columns(tiny: Tiny) -> None:
    recipe = tiny(only=("sentiment",))
    files = {split: recipe["tasks"]["sentiment"][split] for split in ("train", "dev")}
    recipe["tasks"]["sentiment"] = {"preset": "sst5", **files}
    parts = built(recipe)
    assert parts.tasks["sentiment"].kind.names[0] == "very negative"


@pytest.mark.parametrize("name", bundled())
def test_a_bundled_recipe_is_valid(name: str) -> None:
    load_recipe(name)


@pytest.mark.parametrize("name", ["cs224n", "quickstart"])
def test_the_promised_recipes_are_bundled(name: str) -> None:
    assert name in bundled()


# -- shown again -----------------------------------------------------------------------------------------------------


def test_a_recipe_that_is_shown_is_the_same_recipe(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(
        {"train": "heads", "early_stopping": {"patience": 2}},
        {
            "train": {"last": 1},
            "mixing": {"name": "joint", "until": "shortest"},
            "aggregator": "pcgrad",
            "optimizer": {"name": "adam", "betas": [0.8, 0.99]},
            "regularizers": [{"name": "rdrop", "weight": {"sentiment": 2.0}, "alpha": 1.0}],
        },
    )
    recipe["tasks"]["sentiment"] |= {"labels": {"0": "bad", "1": "b", "2": "c", "3": "d", "4": "good"}, "dev": 0.25}
    recipe["tasks"]["similarity"]["pair"] = {"name": "bi", "features": ["u", "cosine"]}
    loaded = load_recipe(recipe).recipe
    (tmp_path / "shown.toml").write_text(to_toml(loaded), encoding="utf-8")
    assert load_recipe(tmp_path / "shown.toml").recipe == loaded
    assert read_toml(tmp_path / "shown.toml")["stages"][0]["weight_decay"] == 0.01  # a default, visible


def test_a_recipe_is_not_changed_by_being_used(tiny: Tiny, tmp_path: Path) -> None:
    from polytask.jobs.train import train

    recipe = tiny({"steps": 1})
    before = copy.deepcopy(recipe)
    train(recipe, tmp_path / "run", overrides=["seed=3"])
    assert recipe == before


def test_a_task_that_no_stage_trains_is_told(tiny: Tiny) -> None:
    notes: list[str] = []
    build(load_recipe(tiny({"steps": 1, "tasks": ["sentiment"]}, {"steps": 1, "tasks": ["similarity"]})), notes.append)
    assert [note for note in notes if "no stage" in note] == [
        "Task 'paraphrase' takes part in no stage: its head stays as it was drawn."
    ]


def test_a_stage_too_short_for_what_it_asks_is_told(tiny: Tiny) -> None:
    notes: list[str] = []
    joint = {"epochs": 2, "batch_size": 10, "mixing": "joint"}
    acting = {"balance": {"name": "dwa", "period": 2}}
    stages = (joint | {"balance": "dwa"}, joint | acting, {"batch_size": 10, "epochs": 1, "mixing": "annealed"}, joint)
    build(load_recipe(tiny(*stages)), notes.append)
    short = [note for note in notes if "not more than" in note]
    assert len(short) == 2
    assert short[0].startswith("Stage 1: 'dwa' compares two periods of 6 steps")
    assert short[1].startswith("Stage 3: 'annealed' changes from epoch to epoch, and 18 steps are not more than the 18")
