"""Extra rows, resampling, emphasis and stretched batches: from the recipe to the run folder and back."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polytask.assembly.parts import Parts, build
from polytask.errors import Interrupted, RecipeError, TableError
from polytask.inference.predictor import load
from polytask.jobs.train import resume, train
from polytask.recipe.load import load_recipe
from polytask.run.events import StepResult
from polytask.run.folder import RunFolder
from polytask.run.listen import Watcher
from polytask.tasks.kinds.classification import Classification

Tiny = Callable[..., dict[str, Any]]

TREES = """\
(3 (2 It) (4 (2 is) (4 (3 rather) (4 good))))
(1 (2 (2 the) (2 plot)) (1 (2 is) (1 (3 rather) (0 dull))))
(0 (0 awful) (2 noise))
"""
TRAIN = [("a warm film", "3"), ("the plot is rather dull", "1"), ("stale", "0"), ("fine", "2"), ("superb fun", "4")] * 2
DEV = [("Awful noise!", "0"), ("great fun", "4")]


class StopAt(Watcher):
    def __init__(self, number: int) -> None:
        self.number = number

    def step(self, step: int, result: StepResult) -> None:
        if step == self.number:
            raise Interrupted("stopped")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with trees, a thesaurus and tables that they go with."""
    own = tmp_path / "tables"
    own.mkdir()
    (own / "trees.txt").write_text(TREES)
    (own / "synonyms.tsv").write_text("film\tmovie\tpicture\nplot\tstory\n")
    for split, rows in (("train", TRAIN), ("dev", DEV)):
        with (own / f"films-{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [("id", "text", "label"), *((f"{split}{n}", *row) for n, row in enumerate(rows))]
            )
    return own


@pytest.fixture
def films(tiny: Tiny, folder: Path) -> Callable[..., dict[str, Any]]:
    def make(*stages: dict[str, Any], **settings: Any) -> dict[str, Any]:
        recipe = tiny(*stages, data=str(folder), only=())
        task = {"kind": "classification", "train": "films-train.csv", "dev": "films-dev.csv", "text": "text"}
        return recipe | {"tasks": {"films": {**task, "label": "label", "labels": list("01234"), **settings}}}

    return make


def built(recipe: dict[str, Any], told: Callable[[str], None] = lambda text: None) -> Parts:
    return build(load_recipe(recipe), told)


def refused(recipe: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as raised:
        load_recipe(recipe)
    return str(raised.value)


def ids_of(parts: Parts, mark: str) -> list[str]:
    return [id for id in parts.train_rows["films"].ids if mark in id]


def test_phrases_become_rows_and_those_of_dev_do_not(films: Callable[..., dict[str, Any]]) -> None:
    told: list[str] = []
    parts = built(films(phrases="trees.txt"), told.append)
    # 19 nodes, 17 different; "awful", "noise" and "awful noise" are dev's, the second tree's sentence is a row already
    assert parts.extra_rows == {
        "films": {
            "phrases": 13,
            "phrases_held_out": 3,
            "phrases_known": 1,
            "phrases_short": 0,
            "phrases_skipped": 0,
        }
    }
    assert len(ids_of(parts, "phrase ")) == 13
    assert len(parts.train_rows["films"]) == len(TRAIN) + 13
    assert len(parts.dev_rows["films"]) == len(DEV)
    labels_N = parts.train_rows["films"].labels_N
    assert labels_N is not None
    good = parts.train_rows["films"].ids.index("phrase 1.5")
    assert int(labels_N[good]) == 4
    assert any("13 phrases of" in line and "3 that occur in dev's sentences" in line for line in told)


def test_dev_that_is_a_share_of_train_keeps_its_phrases_too(films: Callable[..., dict[str, Any]], folder: Path) -> None:
    (folder / "films-train.csv").write_text(
        "text,label\n" + "".join(f"film number {n} is {'good' if n % 2 else 'bad'},{4 * (n % 2)}\n" for n in range(40))
    )
    (folder / "trees.txt").write_text("".join(f"({4 * (n % 2)} (2 number) (2 {n}) (2 is))\n" for n in range(40)))
    parts = built(films(phrases="trees.txt", dev=0.25, dev_rows=3))
    # each number is in one sentence: those of the ten sentences of dev are out, drawn or not
    assert len(parts.dev_rows["films"]) == 3
    assert parts.extra_rows["films"]["phrases"] == 2 * 30
    assert parts.extra_rows["films"]["phrases_held_out"] == 2 * 10 + 2


def test_phrases_of_any_tasks_dev_stay_out(films: Callable[..., dict[str, Any]], folder: Path) -> None:
    (folder / "pairs.csv").write_text("a,b,same\nall of it,is rather good,1\nnothing,of it,0\n")
    recipe = films(phrases="trees.txt")
    pairs = {"kind": "binary", "train": "pairs.csv", "dev": "pairs.csv", "text": ["a", "b"], "label": "same"}
    recipe["tasks"]["pairs"] = pairs | {"dev_rows": 1}
    counts = built(recipe).extra_rows["films"]
    # beside those of films: "it", "is", "rather", "good", "rather good", "is rather good"
    assert (counts["phrases"], counts["phrases_held_out"]) == (13 - 6, 3 + 6)


def test_more_files_can_be_kept_apart_and_short_phrases_left_out(
    films: Callable[..., dict[str, Any]], folder: Path
) -> None:
    (folder / "test.txt").write_text("(4 (3 rather) (4 good))\n")
    (folder / "test.csv").write_text("text\nthe plot\n")
    phrases = {"trees": "trees.txt", "min_words": 2, "apart_from": ["test.txt", "test.csv"]}
    parts = built(films(phrases=phrases))
    counts = parts.extra_rows["films"]
    assert (counts["phrases"], counts["phrases_held_out"], counts["phrases_short"]) == (4, 3, 9)
    assert {"phrases", "apart_from 1", "apart_from 2"} < parts.fingerprints["films"].keys()


def test_a_label_that_the_task_does_not_have_stops_or_is_skipped(
    films: Callable[..., dict[str, Any]], folder: Path
) -> None:
    (folder / "trees.txt").write_text(TREES + "(3 (7 odd) (3 thing))\n")
    with pytest.raises(TableError, match=r"Task 'films': .*trees\.txt.*\n.*line 4: the node '7' of \"odd\""):
        built(films(phrases="trees.txt"))
    assert built(films(phrases="trees.txt", bad_rows="skip")).extra_rows["films"]["phrases_skipped"] == 1


def test_malformed_trees_are_told_of(films: Callable[..., dict[str, Any]], folder: Path) -> None:
    (folder / "trees.txt").write_text(TREES + "(3 (2 odd)\n")
    with pytest.raises(TableError, match=r"trees\.txt: line 4, column 11"):
        built(films(phrases="trees.txt"))


def test_copies_are_rows_of_train_alone_and_the_same_each_time(films: Callable[..., dict[str, Any]]) -> None:
    augment = {"name": "eda", "copies": 3, "synonyms": "synonyms.tsv"}
    parts = built(films(augment=augment))
    copies = ids_of(parts, " copy ")
    counts = parts.extra_rows["films"]
    assert counts["copies"] == len(copies) > 10
    assert counts["copies"] + counts["copies_unchanged"] == 3 * len(TRAIN)
    assert len(set(parts.train_rows["films"].ids)) == len(parts.train_rows["films"])
    assert len(parts.dev_rows["films"]) == len(DEV)

    def inputs(made: Parts) -> list[list[int]]:
        rows = made.train_rows["films"]
        return [rows.columns[0][row].tolist() for row in range(len(rows))]

    assert inputs(built(films(augment=augment))) == inputs(parts)
    assert inputs(built(films(augment=augment) | {"seed": 1})) != inputs(parts)
    # phrases beside them change no copy: a draw belongs to its row
    assert ids_of(built(films(augment=augment, phrases="trees.txt")), " copy ") == copies


def test_of_pairs_each_text_is_changed_on_its_own(tiny: Tiny) -> None:
    recipe = tiny(only=("paraphrase",))
    recipe["tasks"]["paraphrase"]["augment"] = {"name": "aeda", "copies": 1}
    rows = built(recipe).train_rows["paraphrase"]
    assert len(rows) == 120
    first, second = ([len(column[row]) for row in range(120)] for column in rows.columns)
    assert all(first[60 + row] > first[row] and second[60 + row] > second[row] for row in range(60))


@pytest.mark.parametrize("label", [None, "1"])
def test_a_copy_to_rank_keeps_its_first_text_and_is_no_negative_of_its_original(tiny: Tiny, label: str | None) -> None:
    recipe = tiny(only=("paraphrase",))
    lender = {"task": "paraphrase", "each": True} if label is None else {"task": "paraphrase", "label": label}
    augment = {"name": "aeda", "copies": 2}
    recipe["tasks"]["pairs"] = {"kind": "ranking", "rows_from": lender, "pooling": "mean", "augment": augment}
    rows = built(recipe).train_rows["pairs"]
    originals = len(rows) // 3
    first, second = rows.columns
    for row in range(originals):
        for copy in (originals + 2 * row, originals + 2 * row + 1):
            assert np.array_equal(first[copy], first[row])
            assert len(second[copy]) > len(second[row])
            assert rows.labels_N is not None
            assert rows.labels_N[copy, 0] == rows.labels_N[row, 0]


def test_a_copy_is_one_more_text_for_a_language_model(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny({"steps": 2, "batch_size": 10, "learning_rate": 1e-3}, only=("sentiment",))
    recipe["tasks"]["words"] = {"kind": "mlm", "rows_from": "sentiment", "augment": {"name": "aeda", "copies": 1}}
    parts = built(recipe)
    rows = parts.train_rows["words"]
    assert parts.extra_rows["words"]["copies"] == len(rows) // 2 > 20
    assert [id for id in rows.ids if id.endswith(" copy 1")] == [*rows.ids[len(rows) // 2 :]]
    train(recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"augment": "edda"}, "'edda' is not one of the augmentations. Did you mean"),
        ({"augment": {"name": "eda", "replace": 0.2}}, "'replace' needs synonyms"),
        ({"resample": "oer"}, "tasks.films.resample: is 'oer'; wanted 'over' or 'under'"),
        (
            {"resample": {"name": "over", "bin": 3}},
            "tasks.films.resample.bin: there is no such key. Did you mean 'bins'?",
        ),
        ({"resample": {"name": "over", "bins": 3}}, "tasks.films.resample: 'bins' cut the range of a regression task"),
        ({"kind": "multilabel", "resample": "over"}, "there are no classes to even out"),
        ({"phrases": {"trees": "t.txt", "min_word": 2}}, "min_word: there is no such key. Did you mean 'min_words'?"),
        (
            {"kind": "mlm", "label": None, "labels": None, "phrases": "t.txt"},
            "'phrases' are rows with labels, and this",
        ),
        ({"text": ["a", "b"], "phrases": "t.txt"}, "'phrases' are single texts, and this task reads two"),
        ({"kind": {"name": "classification", "class_weights": [1, 2]}}, "tasks.films.kind: .*has 2 numbers"),
        ({"kind": {"name": "classification", "focal": 1, "smoothing": 0.1}}, "tasks.films.kind: .*choose one"),
    ],
)
def test_what_cannot_be_is_refused_before_a_table_is_read(
    films: Callable[..., dict[str, Any]], settings: dict[str, Any], told: str
) -> None:
    assert re.search(told, refused(films(**settings)))


def test_a_run_resumes_bit_for_bit_and_notices_changed_files(
    films: Callable[..., dict[str, Any]], folder: Path, tmp_path: Path
) -> None:
    recipe = films(
        {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3},
        phrases={"trees": "trees.txt", "apart_from": ["more.csv"]},
        augment={"name": "eda", "synonyms": "synonyms.tsv"},
        resample="over",
        kind={"name": "classification", "class_weights": "balanced", "focal": 1.0},
    )
    (folder / "more.csv").write_text("text\nrather good\n")
    whole = train(recipe, tmp_path / "whole").folder
    run = tmp_path / "left"
    with pytest.raises(Interrupted):
        train(recipe | {"checkpoint_every": 2}, run, listeners=[StopAt(5)])
    for name, split in (("trees.txt", "phrases"), ("synonyms.tsv", "synonyms"), ("more.csv", "apart_from 1")):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before + b"\n")
        with pytest.raises(TableError, match=rf"\(the {split} table of task 'films'\) has changed"):
            resume(run)
        (folder / name).write_bytes(before)
    resume(run)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    notes = tomllib.loads((run / "recipe.toml").read_text())["resolved"]
    assert notes["extra_rows"]["films"]["phrases_held_out"] == 3 + 3  # dev's, and those of more.csv


def test_balanced_weights_are_numbers_in_the_run_so_that_no_one_reads_train_again(
    films: Callable[..., dict[str, Any]], folder: Path, tmp_path: Path
) -> None:
    kind = {"name": "classification", "class_weights": "balanced"}
    rows = [("good", "4")] * 6 + [("bad", "0")] * 2 + [("so so", "2")] * 2
    (folder / "films-train.csv").write_text(
        "text,label\n" + "".join(f"{text} {n},{label}\n" for n, (text, label) in enumerate(rows))
    )
    recipe = films({"epochs": 1, "batch_size": 5}, kind=kind, labels=["0", "2", "4"])
    run = train(recipe, tmp_path / "run").folder
    written = tomllib.loads((run / "recipe.toml").read_text())
    assert written["tasks"]["films"]["kind"]["class_weights"] == "balanced"  # so that other tables settle it anew
    assert written["resolved"]["settled"]["films"] == {"class_weights": [10 / 6, 10 / 6, 10 / 18]}
    shutil.rmtree(folder)
    loaded = load(run)
    made = loaded.tasks["films"].kind
    assert isinstance(made, Classification)
    plain = Classification({"0": "0", "2": "2", "4": "4"})
    logits_NC = torch.randn(3, 3)
    torch.testing.assert_close(
        made.loss(logits_NC, torch.tensor([0, 1, 2])),
        plain.loss(logits_NC, torch.tensor([0, 1, 2])) * torch.tensor([10 / 6, 10 / 6, 10 / 18]),
    )
    assert len(loaded.predict("films", ["good", "bad"])) == 2


def test_a_class_without_rows_cannot_be_balanced(films: Callable[..., dict[str, Any]]) -> None:
    kind = {"name": "classification", "class_weights": "balanced"}
    with pytest.raises(TableError, match=r"films-train\.csv has no row of '5'"):
        built(films(kind=kind, labels=list("012345")))


def test_scores_are_evened_out_by_bins_of_the_range(tiny: Tiny) -> None:
    recipe = tiny(only=("similarity",))
    recipe["tasks"]["similarity"]["resample"] = {"name": "over", "bins": 4}
    parts = built(recipe)
    labels_N = parts.train_rows["similarity"].labels_N
    assert labels_N is not None
    edges = np.linspace(0.0, 5.0, 5)
    bins_N = np.clip(np.searchsorted(edges, labels_N.numpy(), side="right") - 1, 0, 3)
    rows = np.concatenate(parts.stages[0].plan.streams["similarity"].batches(0))
    found = Counter(bins_N[rows].tolist())
    assert set(found.values()) == {max(Counter(bins_N.tolist()).values())}
    assert set(found) == set(bins_N.tolist())


def test_scores_that_were_evened_out_are_learned_in_units_of_their_new_spread(tiny: Tiny, tmp_path: Path) -> None:
    rows = [{"a": f"one {n}", "b": f"two {n}", "s": 5 * (n / 59) ** 6} for n in range(60)]  # most of them near 0
    recipe = tiny({"epochs": 4, "batch_size": 10, "learning_rate": 1e-8}, only=("similarity",))
    recipe["tasks"]["similarity"] |= {"train": rows, "text": ["a", "b"], "label": "s", "resample": "over"}
    del recipe["tasks"]["similarity"]["dev"]
    journal = RunFolder(train(recipe, tmp_path / "run").folder).journal_path.read_text().splitlines()
    losses = [event["losses"]["similarity"] for event in map(json.loads, journal) if event["event"] == "step"]
    assert np.mean(losses) == pytest.approx(1.0, abs=0.1)  # in units of the table's own spread it would be 2


def test_the_journal_counts_the_rows_of_a_resampled_pass(films: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    recipe = films({"epochs": 1, "batch_size": 5}, resample="over", phrases="trees.txt", dev=None)
    run = train(recipe, tmp_path / "run").folder
    events = [json.loads(line) for line in RunFolder(run).journal_path.read_text().splitlines()]
    (data,) = (event for event in events if event["event"] == "data")
    steps = [event for event in events if event["event"] == "step"]
    assert data["rows_per_pass"] == sum(step["rows"] for step in steps)
    assert data["rows_per_pass"] % 5 == 0
    assert data["passes"] == 1.0


def test_stretched_batches_let_all_tasks_end_together(tiny: Tiny) -> None:
    stage = {"epochs": 2, "batch_size": 8, "mixing": {"name": "joint", "until": "stretched"}}
    recipe = tiny(stage)
    recipe["tasks"]["sentiment"]["sample"] = 30
    recipe["tasks"]["similarity"]["batch_size"] = 16
    plan = built(recipe).stages[0].plan
    # 30 rows by 8, 60 by 8 and 60 by 16: the first and the last take 4 steps, so all do
    assert plan.steps == 8
    sizes = {name: [len(rows) for rows in stream.batches(0)] for name, stream in plan.streams.items()}
    assert {name: sorted(found) for name, found in sizes.items()} == {
        "sentiment": [7, 7, 8, 8],
        "paraphrase": [15] * 4,
        "similarity": [15] * 4,
    }
    for epoch in range(2):
        seen = {name: Counter[int]() for name in plan.names}
        for step in range(4 * epoch, 4 * epoch + 4):
            for micro in plan(step):
                seen[micro.task].update(micro.rows.tolist())
        assert all(set(rows.values()) == {1} for rows in seen.values())
        assert [len(rows) for rows in seen.values()] == [30, 60, 60]
    assert plan.passes == dict.fromkeys(plan.names, 2.0)


def test_stretched_batches_are_not_cut_by_tokens(tiny: Tiny) -> None:
    stage = {"mixing": {"name": "joint", "until": "stretched"}, "batch_tokens": 500}
    assert "'joint' stretches batches by rows" in refused(tiny(stage))


def test_what_a_stage_never_shows_is_said(tiny: Tiny) -> None:
    def told(until: str, epochs: int) -> list[str]:
        found: list[str] = []
        recipe = tiny({"epochs": epochs, "batch_size": 10, "mixing": {"name": "round_robin", "until": until}})
        recipe["tasks"]["sentiment"]["max_rows"] = 20
        built(recipe, found.append)
        return found

    assert told("shortest", 1) == [
        f"Stage 1 takes 33% of a pass over task '{name}': the other rows do not come up in it."
        for name in ("paraphrase", "similarity")
    ]
    assert told("shortest", 3) == told("longest", 1) == []
