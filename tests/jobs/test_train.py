"""Training from Python: tables in memory, dry runs, first recipes, the quickstart."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import polytask
from polytask.encoder.lstm import BiLstm
from polytask.errors import Interrupted, RecipeError, RunFolderError, TableError, UserError
from polytask.evaluation.predictions import read_predictions
from polytask.jobs.dry import dry_run
from polytask.jobs.train import resume, train
from polytask.recipe.load import load_recipe
from polytask.run.events import StepResult
from polytask.run.folder import RunFolder
from polytask.run.listen import Listener, Watcher
from polytask.starter.first import first_recipe
from polytask.tasks.kinds.regression import Regression

Tiny = Callable[..., dict[str, Any]]

NEW = "layers = 1\nwidth = 16\nheads = 2\nhidden = 16"


class StopAt(Watcher):
    """Interrupts a run, as a crash would."""

    def __init__(self, number: int) -> None:
        self.number = number

    def step(self, step: int, result: StepResult) -> None:
        if step == self.number:
            raise Interrupted("stopped")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def in_memory(tiny: Tiny, tables: Path, kind: str) -> dict[str, Any]:
    recipe = tiny()
    for name, task in recipe["tasks"].items():
        for split in ("train", "dev"):
            rows = rows_of(tables / f"{name}-{split}.csv")
            if kind == "frame":
                pandas = pytest.importorskip("pandas")
                task[split] = pandas.DataFrame(rows)
            else:
                task[split] = rows
    del recipe["data"]
    return recipe


@pytest.mark.parametrize("kind", ["dicts", "frame"])
def test_tables_in_memory_train_like_files_and_can_be_resumed(
    tiny: Tiny, tables: Path, trained: Path, tmp_path: Path, kind: str
) -> None:
    recipe = in_memory(tiny, tables, kind)
    with pytest.raises(Interrupted):
        polytask.train(recipe, tmp_path / "run", listeners=[StopAt(20)])
    del recipe
    (tmp_path / "run").rename(tmp_path / "kept")  # even elsewhere: the tables are in the folder
    assert polytask.resume(tmp_path / "kept").folder == tmp_path / "kept"
    assert (tmp_path / "kept" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def test_columns_that_no_task_reads_may_hold_anything(tiny: Tiny, tables: Path, tmp_path: Path) -> None:
    recipe = tiny({"steps": 1}, only=("sentiment",))
    rows: list[dict[str, Any]] = [{**row, "extra": ["a", "list"]} for row in rows_of(tables / "sentiment-train.csv")]
    recipe["tasks"]["sentiment"]["train"] = rows
    run = train(recipe, tmp_path / "run").folder
    assert polytask.load(run).evaluate("train").tasks["sentiment"].rows == 60


def test_a_broken_row_in_memory_is_told_and_not_dropped(tiny: Tiny, tables: Path, tmp_path: Path) -> None:
    recipe = tiny({"steps": 1}, only=("sentiment",))
    rows: list[dict[str, Any]] = [*rows_of(tables / "sentiment-train.csv")]
    rows[4] = {**rows[4], "sentence": ["not", "a", "text"]}
    recipe["tasks"]["sentiment"]["train"] = rows
    with pytest.raises(TableError, match=r"row 5, column 'sentence': holds a list"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    recipe["tasks"]["sentiment"]["bad_rows"] = "skip"
    run = train(recipe, tmp_path / "run").folder
    assert polytask.load(run).evaluate("train").tasks["sentiment"].rows == 59


def test_values_in_memory_are_read_as_a_table_would_spell_them(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny({"steps": 1, "batch_size": 2}, only=("paraphrase",))
    rows = [{"sentence1": f"One {n}", "sentence2": f"Two {n}", "is_duplicate": n % 2 == 0} for n in range(6)]
    recipe["tasks"]["paraphrase"] |= {"train": rows, "dev": rows}
    labels = polytask.load(train(recipe, tmp_path / "run").folder).tasks["paraphrase"].kind.names
    assert labels == ["false", "true"]


@pytest.mark.parametrize("tasks", [None, "sentiment", {"sentiment": "sentiment-train.csv"}, {}])
def test_a_mapping_that_is_no_recipe_is_an_error_like_any_other(tiny: Tiny, tmp_path: Path, tasks: Any) -> None:
    with pytest.raises(RecipeError, match="tasks"):
        train(tiny() | {"tasks": tasks}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_paths_may_be_path_objects(tiny: Tiny, tables: Path, tmp_path: Path) -> None:
    recipe = tiny({"steps": 1}, only=("sentiment",))
    recipe["tasks"]["sentiment"]["train"] = tables / "sentiment-train.csv"
    assert train(recipe, str(tmp_path / "run")).folder == tmp_path / "run"


# -- dry runs --------------------------------------------------------------------------------------------------------


def test_a_dry_run_estimates_and_writes_nothing(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stage = {"batch_size": 10, "epochs": 2}
    outlook = dry_run(tiny({**stage, "train": "heads"}, {**stage, "mixing": "joint", "aggregator": "pcgrad"}))
    assert list(tmp_path.iterdir()) == []
    assert outlook.steps == [36, 12]
    assert all(0.0 < seconds < 100.0 for seconds in outlook.seconds)
    assert outlook.total_seconds == sum(outlook.seconds) + outlook.evaluation_seconds
    assert outlook.precision == "float32"
    assert {name: (task.train, task.dev) for name, task in outlook.tasks.items()} == dict.fromkeys(
        outlook.tasks, (60, 20)
    )
    assert all(0.0 <= task.padding < 0.5 for task in outlook.tasks.values())


def test_a_dry_run_meets_what_the_run_would_meet(tiny: Tiny) -> None:
    with pytest.raises(TableError):
        dry_run(tiny(), ["tasks.sentiment.label=mood"])
    with pytest.raises(RecipeError):
        dry_run(tiny(), ["stages.0.aggregator=pcgrad"])


# -- first recipes ---------------------------------------------------------------------------------------------------


def test_two_tables_become_a_recipe_that_trains(tables: Path, tmp_path: Path, own_cache: Path) -> None:
    for name in ("sentiment-train", "sentiment-dev", "similarity-train"):
        shutil.copy(tables / f"{name}.csv", tmp_path)
    out = tmp_path / "recipes" / "recipe.toml"
    out.parent.mkdir()
    first_recipe([tmp_path / f"{name}.csv" for name in ("sentiment-train", "sentiment-dev", "similarity-train")], out)
    text = out.read_text(encoding="utf-8")
    recipe = load_recipe(out).recipe
    assert list(recipe.tasks) == ["sentiment", "similarity"]
    assert recipe.tasks["sentiment"].dev == "../sentiment-dev.csv"
    assert recipe.tasks["similarity"].dev == 0.1
    assert recipe.tasks["similarity"].text == ["sentence1", "sentence2"]
    out.write_text(text.replace('checkpoint = "minilm"', NEW), encoding="utf-8")
    run = train(out, tmp_path / "run", overrides=["stages.0.epochs=1"]).folder
    found = polytask.load(run).evaluate()
    assert found.tasks.keys() == {"sentiment", "similarity"}
    with pytest.raises(RecipeError, match="already exists"):
        first_recipe([tmp_path / "sentiment-train.csv"], out)


def test_a_recipe_may_be_written_beside_the_tables(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(tables / "sentiment-train.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    first_recipe(["sentiment-train.csv"], Path("recipe.toml"))
    assert load_recipe("recipe.toml").recipe.tasks["sentiment"].train == "sentiment-train.csv"


def test_unlabelled_rows_of_the_dev_table_are_met_by_the_first_recipe(tables: Path, tmp_path: Path) -> None:
    shutil.copy(tables / "sentiment-train.csv", tmp_path)
    dev = (tables / "sentiment-dev.csv").read_text(encoding="utf-8")
    (tmp_path / "sentiment-dev.csv").write_text(
        dev + "unlabelled,Nobody said what they thought of it.,\n", encoding="utf-8"
    )
    first_recipe([tmp_path / "sentiment-train.csv", tmp_path / "sentiment-dev.csv"], tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml").recipe.tasks["sentiment"].bad_rows == "skip"


def test_tables_that_are_not_there_or_have_no_task_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        first_recipe([tmp_path / "none.csv"], tmp_path / "recipe.toml")
    assert not (tmp_path / "recipe.toml").exists()


# -- quickstart ------------------------------------------------------------------------------------------------------


def test_the_baseline_trains_an_lstm_of_its_own_for_each_task(tables: Path, tmp_path: Path, own_cache: Path) -> None:
    named = {"sst": "sentiment", "quora": "paraphrase", "sts": "similarity"}
    files = [f"tasks.{t}.{split}={name}-{split}.csv" for t, name in named.items() for split in ("train", "dev")]
    small = [f"data={tables}", "device=cpu", "encoder.width=16", "encoder.hidden=8", *files]
    quick = [f"stages.{number}.{key}" for number in range(3) for key in ("epochs=6", "learning_rate=1e-2")]
    folder = train("bilstm", tmp_path / "run", overrides=[*small, *quick]).folder
    events = [json.loads(line) for line in RunFolder(folder).journal_path.read_text().splitlines()]
    run = polytask.load(folder)
    for number, task in enumerate(named):
        losses = [e["losses"][task] for e in events if e["event"] == "step" and e["stage"] == number]
        assert len(losses) == 6
        assert losses[-1] < losses[0]
        assert isinstance(run.model.encoder(task), BiLstm)
        assert run.predict_table(task, tables / f"{named[task]}-dev.csv", tmp_path / f"{task}.csv") == 20
        kept = read_predictions(folder / "predictions" / f"{task}-dev.csv")
        with (tmp_path / f"{task}.csv").open(encoding="utf-8", newline="") as file:
            found = [(row["id"], row["prediction"]) for row in csv.DictReader(file)]
        assert found == [(row_id, str(value)) for row_id, value in zip(kept.ids, kept.shown, strict=True)]
        assert run.recipe.tasks[task].head.model_dump() == {"name": "linear", "dropout": 0.0}
    assert len(run.model.encoders) == 3
    kind = run.tasks["sts"].kind
    assert isinstance(kind, Regression)
    assert (kind.output, kind.unit) == ("raw", 1.0)  # the squared error in points


def test_the_quickstart_ends_with_a_run_and_what_to_type_next(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import polytask.starter.quickstart as room

    def small(recipe: Path, out: Path, *, listeners: Sequence[Listener]) -> Path:
        text = recipe.read_text(encoding="utf-8").replace('checkpoint = "minilm"', NEW)
        recipe.write_text(text, encoding="utf-8")
        rows = [
            f"tasks.{task}.{rows}=40"
            for task in ("sentiment", "paraphrase", "similarity")
            for rows in ("max_rows", "dev_rows")
        ]
        return train(recipe, out, listeners=listeners, overrides=[*rows, "stages.0.epochs=1"]).folder

    fetched: list[str] = []
    monkeypatch.setattr(room, "get", fetched.append)
    monkeypatch.setattr(room, "train", small)
    done = room.quickstart(tmp_path / "quickstart")
    assert fetched == ["minilm"]
    assert done.scores.tasks.keys() == {"sentiment", "paraphrase", "similarity"}
    assert all(scores.rows == 40 for scores in done.scores.tasks.values())
    assert 0.0 <= done.scores.aggregate <= 1.0
    assert all(Path(place).exists() for place, _ in done.places)
    assert RunFolder(tmp_path / "quickstart" / "run").read_index().finished
    assert all(command.startswith("polytask ") for command in done.commands)
    assert any(str(tmp_path / "quickstart" / "run") in command for command in done.commands)
    with pytest.raises(RunFolderError, match="already exists and is not empty"):
        room.quickstart(tmp_path / "quickstart")
    assert resume(tmp_path / "quickstart" / "run").folder


@pytest.mark.slow
def test_the_real_quickstart(tmp_path: Path) -> None:
    from polytask.starter.quickstart import quickstart

    done = quickstart(tmp_path / "quickstart")
    assert done.scores.aggregate > 0.75
