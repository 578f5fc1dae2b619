"""A trained run at work: ids and order are kept, formats are what they promise, mistakes are named."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polytask.data.tables.sources import Source
from polytask.errors import Interrupted, RunFolderError, TableError, UserError
from polytask.evaluation.predictions import read_predictions
from polytask.inference.predictor import Predictor, load
from polytask.jobs.train import train
from polytask.run.events import StepResult
from polytask.run.listen import Watcher

Tiny = Callable[..., dict[str, Any]]

TEXTS = ["The soup was pleasing.", "Not a good film", "ein unbekanntes Wort", "The soup was pleasing."]
PAIRS = [("A man left.", "A man went away."), ("The dog ran through the very long street.", "No."), ("x", "x")]


@pytest.fixture(scope="module")
def predictor(trained: Path) -> Predictor:
    return load(trained)


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# -- texts -----------------------------------------------------------------------------------------------------------


def test_a_prediction_for_each_text_in_their_order(predictor: Predictor) -> None:
    labels = predictor.predict("sentiment", TEXTS)
    assert len(labels) == 4
    assert set(labels) <= {"0", "1", "2", "3", "4"}
    assert labels[0] == labels[3]
    assert labels == [predictor.predict("sentiment", [text])[0] for text in TEXTS]


def test_scores_are_numbers_within_the_range(predictor: Predictor) -> None:
    scores = predictor.predict("similarity", PAIRS)
    assert all(isinstance(score, float) and 0.0 <= score <= 5.0 for score in scores)
    assert scores == pytest.approx([predictor.predict("similarity", [pair])[0] for pair in PAIRS], abs=1e-5)


def test_probabilities_belong_to_labels_and_add_up_to_one(predictor: Predictor) -> None:
    for task, texts in (("sentiment", TEXTS), ("paraphrase", PAIRS)):
        records = predictor.predict(task, texts, probabilities=True)
        assert [record["id"] for record in records] == [str(n) for n in range(len(texts))]
        for record, label in zip(records, predictor.predict(task, texts), strict=True):
            assert record.keys() == {"id", "prediction", "probabilities"}
            assert list(record["probabilities"]) == predictor.tasks[task].kind.names
            assert sum(record["probabilities"].values()) == pytest.approx(1.0, abs=1e-6)
            assert record["prediction"] == label == max(record["probabilities"], key=record["probabilities"].get)


def test_no_texts_no_predictions(predictor: Predictor) -> None:
    assert predictor.predict("sentiment", []) == []
    assert predictor.predict("paraphrase", [], probabilities=True) == []


def test_texts_that_do_not_fit_the_task_are_refused(predictor: Predictor) -> None:
    with pytest.raises(UserError, match=r"no task 'sentimnt'\. Did you mean 'sentiment'"):
        predictor.predict("sentimnt", TEXTS)
    with pytest.raises(UserError, match="given one string"):
        predictor.predict("sentiment", "The soup was pleasing.")
    with pytest.raises(UserError, match="takes a text at each place; at place 1 there is"):
        predictor.predict("sentiment", ["fine", ("a", "b")])
    with pytest.raises(UserError, match="takes a pair of texts at each place; at place 0"):
        predictor.predict("paraphrase", TEXTS)


def test_whatever_can_be_gone_through_is_predicted(predictor: Predictor) -> None:
    texts = ["This film is a joy.", "A dull film."]
    wanted = predictor.predict("sentiment", texts)
    given: list[Any] = [tuple(texts), iter(texts), (text for text in texts), np.array(texts), pd.Series(texts)]
    given += [pd.DataFrame({"other": [1, 2], "sentence": texts}, index=[7, 9])]
    assert [predictor.predict("sentiment", one) for one in given] == [wanted] * len(given)
    pairs = [("a film", "a movie"), ("a film", "a train")]
    both = predictor.predict("paraphrase", pairs)
    frame = pd.DataFrame({"sentence2": ["a movie", "a train"], "sentence1": ["a film", "a film"]})
    for one in (zip(*zip(*pairs, strict=True), strict=True), np.array(pairs), frame):
        assert predictor.predict("paraphrase", one) == both


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["fine", None], r"at place 1 there is None\."),
        (["fine", float("nan")], r"at place 1 there is nan\."),
        (["half \ud83d"], "the text at place 0 has half of a surrogate pair"),
        ({"sentence": ["fine"]}, r"it was given a dict\."),
        (5, r"it was given a int\."),
        (pd.DataFrame({"sentense": ["fine"]}), "has no column 'sentence'. Did you mean 'sentense'"),
    ],
)
def test_what_is_no_text_is_named(predictor: Predictor, texts: Any, wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        predictor.predict("sentiment", texts)


def test_a_predictor_is_one_line(predictor: Predictor) -> None:
    assert repr(predictor).endswith("tasks: sentiment, paraphrase, similarity)")
    assert len(repr(predictor)) < 300


def test_the_model_of_a_run_can_be_had_from_the_package(trained: Path, predictor: Predictor) -> None:
    import polytask

    assert polytask.load(trained).predict("sentiment", TEXTS) == predictor.predict("sentiment", TEXTS)


# -- tables ----------------------------------------------------------------------------------------------------------


def unlabelled(tables: Path, task: str, path: Path) -> tuple[Path, list[str]]:
    """Write a task's dev table backwards and without its label; return it and its ids."""
    rows = read_csv(tables / f"{task}-dev.csv")[::-1]
    kept = [
        {key: value for key, value in row.items() if key in ("id", "sentence", "sentence1", "sentence2")}
        for row in rows
    ]
    return write_csv(path, kept), [row["id"] for row in kept]


@pytest.mark.parametrize("task", ["sentiment", "paraphrase", "similarity"])
@pytest.mark.parametrize("format", ["csv", "jsonl", "cs224n"])
def test_a_table_without_labels_is_predicted_in_its_order(
    predictor: Predictor, tables: Path, tmp_path: Path, task: str, format: str
) -> None:
    table, ids = unlabelled(tables, task, tmp_path / "in.csv")
    out = tmp_path / "out"
    assert predictor.predict_table(task, table, out, format) == 20
    rows = read_csv(table)
    texts: Any = (
        [row["sentence"] for row in rows] if task == "sentiment" else [(r["sentence1"], r["sentence2"]) for r in rows]
    )
    wanted = predictor.predict(task, texts)
    text = out.read_text(encoding="utf-8")
    if format == "csv":
        found = [(row["id"], row["prediction"]) for row in read_csv(out)]
    elif format == "jsonl":
        found = [(line["id"], line["prediction"]) for line in map(json.loads, text.splitlines())]
    else:
        found = [(line.split(" , ")[0], line.split(" , ")[1].removesuffix(" ")) for line in text.splitlines()[1:]]
    assert [row_id for row_id, _ in found] == ids
    if task == "similarity":
        assert [float(value) for _, value in found] == pytest.approx(wanted)
    else:
        assert [value for _, value in found] == wanted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out"]


def test_jsonl_lines_hold_id_prediction_and_probabilities(predictor: Predictor, tables: Path, tmp_path: Path) -> None:
    for task in ("sentiment", "paraphrase"):
        predictor.predict_table(task, tables / f"{task}-dev.csv", tmp_path / "out.jsonl", "jsonl")
        for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            assert list(record) == ["id", "prediction", "probabilities"]
            assert record["prediction"] in record["probabilities"]
            assert sum(record["probabilities"].values()) == pytest.approx(1.0, abs=1e-6)
    predictor.predict_table("similarity", tables / "similarity-dev.csv", tmp_path / "out.jsonl", "jsonl")
    record = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert list(record) == ["id", "prediction"]  # a score has no labels, and so no probabilities
    assert isinstance(record["prediction"], float)


def test_csv_has_a_column_for_each_probability(predictor: Predictor, tables: Path, tmp_path: Path) -> None:
    predictor.predict_table("paraphrase", tables / "paraphrase-dev.csv", tmp_path / "out.csv")
    rows = read_csv(tmp_path / "out.csv")
    assert list(rows[0]) == ["id", "prediction", "p(0)", "p(1)"]
    assert all(float(row["p(0)"]) + float(row["p(1)"]) == pytest.approx(1.0, abs=2e-6) for row in rows)


def test_the_leaderboards_format_spells_labels_as_tables_do(tiny: Tiny, tables: Path, tmp_path: Path) -> None:
    recipe = tiny({"steps": 1, "batch_size": 10}, only=("sentiment",))
    names = {"0": "very bad", "1": "bad", "2": "fair", "3": "good", "4": "very good"}
    recipe["tasks"]["sentiment"]["labels"] = names
    predictor = load(train(recipe, tmp_path / "run"))
    predictor.predict_table("sentiment", tables / "sentiment-dev.csv", tmp_path / "out.csv", "cs224n")
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").split("\n")
    assert lines[0] == "id \t Predicted_Sentiment "
    assert lines[-1] == ""
    assert all(re.fullmatch(r"sentiment-dev-\d{4} , [0-4] ", line) for line in lines[1:-1])
    predictor.predict_table("sentiment", tables / "sentiment-dev.csv", tmp_path / "named.csv", "csv")
    assert {row["prediction"] for row in read_csv(tmp_path / "named.csv")} <= set(names.values())


def test_text_columns_may_have_other_names_than_in_training(predictor: Predictor, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "in.csv", [{"left": a, "right": b, "note": "n"} for a, b in PAIRS])
    predictor.predict_table("paraphrase", table, tmp_path / "out.jsonl", "jsonl", ["left", "right"])
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["prediction"] for record in records] == predictor.predict("paraphrase", PAIRS)
    assert [record["id"] for record in records] == ["1", "2", "3"]  # no id column: the row's number
    with pytest.raises(UserError, match="reads 2 text column"):
        predictor.predict_table("paraphrase", table, tmp_path / "out", "csv", ["left"])


def test_tables_may_be_of_any_kind(predictor: Predictor, tmp_path: Path) -> None:
    rows = [{"id": f"r{n}", "sentence": text} for n, text in enumerate(TEXTS)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    outs = []
    sources: list[Source] = [rows, tmp_path / "in.jsonl", write_csv(tmp_path / "in.csv", rows)]
    for place, table in enumerate(sources):
        predictor.predict_table("sentiment", table, tmp_path / f"{place}")
        outs.append((tmp_path / f"{place}").read_bytes())
    assert outs[0] == outs[1] == outs[2]


def test_a_row_that_cannot_be_predicted_stops_and_leaves_nothing(predictor: Predictor, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "in.csv", [{"sentence": "fine"}, {"sentence": "  "}, {"sentence": "good"}])
    (tmp_path / "out.csv").write_text("yesterday's")
    with pytest.raises(TableError, match="line 3, column 'sentence': the text is empty"):
        predictor.predict_table("sentiment", table, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "yesterday's"
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(RunFolderError, match="cannot be written"):
        predictor.predict_table("sentiment", [{"sentence": "fine"}], tmp_path / "nowhere" / "out.csv")
    with pytest.raises(TableError, match="has no column 'sentence'"):
        predictor.predict_table("sentiment", [{"text": "fine"}], tmp_path / "out.csv")


# -- evaluation ------------------------------------------------------------------------------------------------------


def test_evaluation_counts_and_scores_every_task(predictor: Predictor) -> None:
    for split, rows in (("dev", 20), ("train", 60)):
        found = predictor.evaluate(split).to_json()
        assert json.loads(json.dumps(found)) == found
        assert list(found) == ["tasks", "aggregate"]
        assert list(found["tasks"]) == ["sentiment", "paraphrase", "similarity"]
        assert {"rows", "accuracy", "macro_f1"} <= found["tasks"]["sentiment"].keys()
        assert not {"swap_gap", "swap_gap_max"} & found["tasks"]["sentiment"].keys()
        assert {"rows", "accuracy", "macro_f1"} <= found["tasks"]["paraphrase"].keys()
        assert list(found["tasks"]["similarity"]) == ["rows", "pearson", "spearman", "mse", "swap_gap", "swap_gap_max"]
        assert [scores["rows"] for scores in found["tasks"].values()] == [rows] * 3
        firsts = [
            found["tasks"][t][m] for t, m in zip(found["tasks"], ("accuracy", "accuracy", "pearson"), strict=True)
        ]
        assert found["aggregate"] == pytest.approx(np.mean(firsts))


def test_any_labelled_table_can_be_scored(predictor: Predictor, tables: Path) -> None:
    whole = predictor.evaluate("dev")
    for task, scores in whole.tasks.items():
        assert predictor.evaluate_table(task, tables / f"{task}-dev.csv") == scores
        assert predictor.evaluate("dev", only=task).tasks == {task: scores}
    rows: list[dict[str, Any]] = [{"sentence": text, "sentiment": "1.0"} for text in TEXTS]  # 1.0 is 1
    assert predictor.evaluate_table("sentiment", rows).rows == 4


def test_scores_agree_with_the_predictions(predictor: Predictor, tables: Path) -> None:
    rows = read_csv(tables / "sentiment-dev.csv")
    predicted = predictor.predict("sentiment", [row["sentence"] for row in rows])
    right = np.mean([label == row["sentiment"] for label, row in zip(predicted, rows, strict=True)])
    assert predictor.evaluate_table("sentiment", tables / "sentiment-dev.csv").values["accuracy"] == pytest.approx(
        right
    )


def test_a_table_with_labels_that_training_never_had_cannot_be_scored(predictor: Predictor) -> None:
    with pytest.raises(TableError, match="row 1, column 'sentiment': 'joyful' is not one of the labels"):
        predictor.evaluate_table("sentiment", [{"sentence": "fine", "sentiment": "joyful"}])
    with pytest.raises(TableError, match="there is no label"):
        predictor.evaluate_table("sentiment", [{"sentence": "fine", "sentiment": ""}])
    with pytest.raises(TableError, match="outside the range 0 to 5"):
        predictor.evaluate_table("similarity", [{"sentence1": "a", "sentence2": "b", "similarity": 7}])


def test_a_run_without_a_dev_table_has_nothing_to_evaluate(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny({"steps": 2, "batch_size": 10}, only=("sentiment",))
    del recipe["tasks"]["sentiment"]["dev"]
    predictor = load(train(recipe, tmp_path / "run"))
    with pytest.raises(UserError, match="no dev table of 'sentiment'"):
        predictor.evaluate("dev")
    assert predictor.evaluate("train").tasks["sentiment"].rows == 60
    assert load(tmp_path / "run", checkpoint="last").predict("sentiment", TEXTS) == predictor.predict(
        "sentiment", TEXTS
    )


# -- run folders -----------------------------------------------------------------------------------------------------


def test_the_dev_predictions_of_a_run_are_those_of_its_best_checkpoint(
    trained: Path, predictor: Predictor, tables: Path, tmp_path: Path
) -> None:
    for task in predictor.tasks:
        predictor.predict_table(task, tables / f"{task}-dev.csv", tmp_path / "out.jsonl", "jsonl")
        records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
        kept = read_predictions(trained / "predictions" / f"{task}-dev.csv")
        assert [record["id"] for record in records] == list(kept.ids)
        assert [record["prediction"] for record in records] == kept.shown
        if kept.predicted.probabilities_NC is not None:
            found = [list(record["probabilities"].values()) for record in records]
            assert found == kept.predicted.probabilities_NC.tolist()


def test_checkpoints_are_called_by_name(trained: Path) -> None:
    for name in ("best", "last", "best-sentiment", "best-paraphrase", "best-similarity"):
        assert load(trained, checkpoint=name).predict("sentiment", TEXTS[:1])
    with pytest.raises(UserError, match=r"no checkpoint 'bets'\. Did you mean 'best'"):
        load(trained, checkpoint="bets")


def test_what_is_no_run_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="There is no run folder"):
        load(tmp_path / "none")
    with pytest.raises(RunFolderError, match="is not a run folder"):
        load(tmp_path)


class StopAtOnce(Watcher):
    def stage(self, number: int, stages: int, start: int, steps: int) -> None:
        raise Interrupted("before the first step")

    def step(self, step: int, result: StepResult) -> None:
        raise AssertionError


def test_a_run_that_took_no_step_has_nothing_to_predict_with(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tiny(), tmp_path / "run", listeners=[StopAtOnce()])
    for name in ("best", "last", "best-sentiment"):
        with pytest.raises(RunFolderError, match=f"has no checkpoint '{name}' yet"):
            load(tmp_path / "run", checkpoint=name)
