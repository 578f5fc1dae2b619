"""Tasks whose rows are other tasks' rows: which ones come along, in what shape, and that no dev text is among them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polytask.assembly.parts import build
from polytask.assembly.record import Splits
from polytask.assembly.tables import read_tables
from polytask.errors import RecipeError, TableError
from polytask.recipe.load import load_recipe

Tiny = Callable[..., dict[str, Any]]
Row = tuple[str, ...]


def read(recipe: dict[str, Any], told: list[str] | None = None) -> dict[str, Splits]:
    loaded = load_recipe(recipe)
    return read_tables(loaded.recipe, loaded.base, ([] if told is None else told).append)


def with_task(recipe: dict[str, Any], kind: str, rows_from: Any, **more: Any) -> dict[str, Any]:
    recipe["tasks"]["extra"] = {"kind": kind, "rows_from": rows_from, **more}
    return recipe


def rows_of(found: Splits, split: str = "train") -> list[Row]:
    data = found.train if split == "train" else found.dev
    assert data is not None
    return list(zip(*data.texts, strict=True))


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def plain(texts: list[str]) -> set[str]:
    return {text.strip().lower() for text in texts}


def test_a_language_model_reads_every_text_once(tiny: Tiny, tables: Path) -> None:
    found = read(with_task(tiny(), "mlm", ["sentiment", "paraphrase"]))["extra"]
    assert list(found.labels) == []
    texts = [text for (text,) in rows_of(found)]
    sentiment = [row["sentence"] for row in table(tables, "sentiment-train")]
    pairs = [row[column] for row in table(tables, "paraphrase-train") for column in ("sentence1", "sentence2")]
    dev = [row["sentence"] for row in table(tables, "sentiment-dev")]
    assert plain(texts) == plain(sentiment + pairs) - plain(dev)
    assert len(plain(texts)) == len(texts)
    assert len(set(found.train.ids)) == len(texts)


@pytest.mark.parametrize("kind", ["mlm", "ranking"])
def test_no_text_of_a_dev_share_is_among_the_rows(tiny: Tiny, kind: str) -> None:
    recipe = with_task(tiny(), kind, ["paraphrase", "similarity"])
    for name in ("paraphrase", "similarity"):
        recipe["tasks"][name]["dev"] = 0.3
    found = read(recipe)
    dev = [row for name in ("paraphrase", "similarity") for row in rows_of(found[name], "dev")]
    trained = rows_of(found["extra"])
    assert len(dev) > 20
    assert len(trained) > 40
    if kind == "mlm":
        assert not {text for (text,) in trained} & {text for row in dev for text in row}
    else:
        assert not {frozenset(row) for row in trained} & {frozenset(row) for row in dev}


@pytest.mark.parametrize(("kind", "each"), [("mlm", False), ("ranking", True)])
def test_no_text_of_dev_pairs_comes_along_one_by_one(tiny: Tiny, tables: Path, kind: str, each: bool) -> None:
    """Texts that train shares with pairs of dev, whether ``dev_rows`` draws those or not."""
    recipe = with_task(tiny(only=("paraphrase",)), kind, {"task": "paraphrase", "each": each})
    leaked = {table(tables, "paraphrase-train")[row]["sentence1"] for row in range(5)}
    dev = [{"sentence1": text, "sentence2": f"unheard of {n}", "is_duplicate": n % 2} for n, text in enumerate(leaked)]
    recipe["tasks"]["paraphrase"] |= {"dev": dev, "dev_rows": 1}
    texts = {text for row in rows_of(read(recipe)["extra"]) for text in row}
    assert len(texts) > 50
    assert not plain([*texts]) & plain([*leaked])


def test_a_text_that_also_stands_in_a_dev_table_is_left_out_and_told(tiny: Tiny, tables: Path, tmp_path: Path) -> None:
    train = table(tables, "sentiment-train")
    leak = tmp_path / "leak.csv"
    leak.write_text(f'sentence,sentiment\n"{train[3]["sentence"].upper()}",1\n', encoding="utf-8")
    recipe = with_task(tiny(only=("sentiment",)), "mlm", "sentiment")
    recipe["tasks"]["sentiment"]["dev"] = str(leak)
    told: list[str] = []
    texts = [text for (text,) in rows_of(read(recipe, told)["extra"])]
    assert train[3]["sentence"] not in texts
    assert train[4]["sentence"] in texts
    assert "Task 'extra': rows not borrowed because they stand in a dev table: 1." in told


def test_dev_texts_come_along_when_asked_for_by_name(tiny: Tiny, tables: Path) -> None:
    asked = {"task": "sentiment", "splits": ["train", "dev"]}
    found = read(with_task(tiny(only=("sentiment",)), "mlm", [asked]))["extra"]
    wanted = [row["sentence"] for name in ("train", "dev") for row in table(tables, f"sentiment-{name}")]
    assert {text for (text,) in rows_of(found)} == set(wanted)


@pytest.mark.parametrize("label", ["1", "same"])
def test_the_rows_of_one_label_become_pairs(tiny: Tiny, tables: Path, label: str) -> None:
    recipe = with_task(tiny(), "ranking", {"task": "paraphrase", "label": label})
    recipe["tasks"]["paraphrase"]["labels"] = {"0": "different", "1": "same"}
    found = read(recipe)["extra"]
    wanted = [
        (row["sentence1"], row["sentence2"]) for row in table(tables, "paraphrase-train") if row["is_duplicate"] == "1"
    ]
    assert rows_of(found) == wanted
    assert 10 < len(wanted) < 50
    assert found.train.labels == []


def test_single_texts_are_pairs_with_themselves(tiny: Tiny, tables: Path) -> None:
    asked = ["sentiment", {"task": "paraphrase", "each": True}]
    pairs = rows_of(read(with_task(tiny(), "ranking", asked))["extra"])
    assert all(first == second for first, second in pairs)
    texts = {row["sentence"] for row in table(tables, "sentiment-train")}
    both = {row[column] for row in table(tables, "paraphrase-train") for column in ("sentence1", "sentence2")}
    assert {first for first, _ in pairs} == texts | both


def test_pairs_stay_pairs_beside_single_texts(tiny: Tiny, tables: Path) -> None:
    pairs = rows_of(read(with_task(tiny(), "ranking", ["paraphrase", "sentiment"]))["extra"])
    given = [(row["sentence1"], row["sentence2"]) for row in table(tables, "paraphrase-train")]
    assert pairs[: len(given)] == given
    assert all(first == second for first, second in pairs[len(given) :])


def test_labelled_rows_keep_their_labels(tiny: Tiny, tables: Path) -> None:
    found = read(with_task(tiny(), "classification", "paraphrase", evaluate=False))["extra"]
    assert found.train.labels == [row["is_duplicate"] for row in table(tables, "paraphrase-train")]
    assert list(found.labels) == ["0", "1"]


def test_a_table_of_ones_own_comes_first(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("One thing. Another thing.\n", encoding="utf-8")
    recipe = with_task(tiny(), "mlm", "sentiment", train=str(tmp_path / "more.txt"), text="sentence")
    texts = [text for (text,) in rows_of(read(recipe)["extra"])]
    assert texts[:2] == ["One thing.", "Another thing."]
    assert len(texts) > 50


def test_adjacent_sentences_are_pairs(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "running.txt").write_text("One. Two. Three.\n\nFour.\nFive.\n", encoding="utf-8")
    recipe = tiny(only=("sentiment",))
    recipe["tasks"]["extra"] = {
        "kind": "ranking",
        "train": str(tmp_path / "running.txt"),
        "text": ["sentence", "next"],
    }
    assert rows_of(read(recipe)["extra"]) == [("One.", "Two."), ("Two.", "Three."), ("Four.", "Five.")]


def test_a_share_of_borrowed_rows_can_be_set_apart(tiny: Tiny) -> None:
    whole = read(with_task(tiny(), "mlm", "sentiment"))["extra"]
    found = read(with_task(tiny(), "mlm", "sentiment", dev=0.2))["extra"]
    train, dev = rows_of(found), rows_of(found, "dev")
    assert sorted(train + dev) == sorted(rows_of(whole))
    assert not set(train) & set(dev)


def test_lenders_may_stand_after_borrowers(tiny: Tiny) -> None:
    recipe = with_task(tiny(), "mlm", "sentiment")
    recipe["tasks"] = {"extra": recipe["tasks"].pop("extra"), **recipe["tasks"]}
    assert next(iter(read(recipe))) == "extra"


def test_resuming_notices_that_a_lenders_table_has_changed(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    prints = []
    for text in ("one", "two"):
        path.write_text(f"sentence,sentiment\n{text},1\nother,0\n", encoding="utf-8")
        recipe = with_task(tiny(only=("sentiment",)), "mlm", "sentiment")
        recipe["tasks"]["sentiment"] |= {"train": str(path), "dev": None}
        prints.append(read(recipe)["extra"].fingerprints["train"])
    assert prints[0] != prints[1]


@pytest.mark.parametrize(
    ("kind", "rows_from", "more", "wanted"),
    [
        ("mlm", "sentimnt", {}, "there is no task 'sentimnt'. Did you mean 'sentiment'?"),
        ("mlm", "extra", {}, "tasks.extra.rows_from: a task cannot borrow rows from itself."),
        ("mlm", "borrower", {}, "'borrower' itself borrows its rows"),
        ("mlm", [], {}, "it names no task"),
        ("mlm", {"task": "sentiment", "lable": "1"}, {}, "lable: there is no such key. Did you mean 'label'?"),
        ("mlm", {"label": "1"}, {}, "rows_from.task: is missing"),
        ("mlm", {"task": "sentiment", "splits": ["test"]}, {}, "wanted 'train' or 'dev'"),
        ("ranking", {"task": "similarity", "label": "1"}, {}, "'similarity' has no labels, so none can be '1'"),
        ("mlm", {"task": "lonely", "splits": ["dev"]}, {}, "'lonely' has no dev table"),
        ("binary", "sentiment", {"text": ["a", "b"]}, "'sentiment' has 1 text(s) a row, and this task has 2"),
        ("binary", {"task": "paraphrase", "each": True}, {}, "each = true leaves a label without its row"),
        ("binary", "lonely", {}, "'lonely' has no labels for it to learn"),
        ("ranking", "paraphrase", {"label": "is_duplicate"}, "'ranking' reads no labels"),
    ],
)
def test_what_cannot_be_borrowed(tiny: Tiny, kind: str, rows_from: Any, more: dict[str, Any], wanted: str) -> None:
    recipe = with_task(tiny(), kind, rows_from, **more)
    recipe["tasks"]["lonely"] = {"kind": "mlm", "train": "sentiment-train.csv", "text": "sentence"}
    recipe["tasks"]["borrower"] = {"kind": "mlm", "rows_from": "sentiment"}
    with pytest.raises(RecipeError) as raised:
        load_recipe(recipe)
    assert wanted in str(raised.value)
    assert rows_from not in ("extra", "borrower") or len(str(raised.value).splitlines()) == 2  # no 'text is missing'


def test_a_label_that_the_lender_does_not_have(tiny: Tiny) -> None:
    with pytest.raises(TableError, match=r"Task 'paraphrase': '7' is not one of the labels '0' and '1'"):
        read(with_task(tiny(), "ranking", {"task": "paraphrase", "label": "7"}))
    with pytest.raises(TableError, match=r"Task 'extra' borrows rows whose label '.' is not one of the labels 'a' and"):
        read(with_task(tiny(), "binary", "paraphrase", labels=["a", "b"]))


def test_nothing_left_to_borrow(tiny: Tiny) -> None:
    recipe = with_task(tiny(only=("sentiment",)), "mlm", "sentiment")
    recipe["tasks"]["sentiment"]["dev"] = recipe["tasks"]["sentiment"]["train"]
    with pytest.raises(TableError, match="Task 'extra': no row is left to borrow"):
        read(recipe)


def test_a_lender_that_cannot_be_read_is_told_alone(tiny: Tiny) -> None:
    recipe = with_task(tiny(), "mlm", "sentiment")
    recipe["tasks"]["sentiment"]["train"] = "nowhere.csv"
    with pytest.raises(TableError) as raised:
        read(recipe)
    assert len(str(raised.value).splitlines()) == 1
    assert "nowhere.csv does not exist" in str(raised.value)


def test_a_resolved_recipe_says_the_same_again(tiny: Tiny) -> None:
    recipe = with_task(tiny(), "ranking", ["sentiment", {"task": "paraphrase", "label": "1"}])
    parts = build(load_recipe(recipe))
    again = build(load_recipe(parts.recipe.model_dump(mode="json")))
    assert again.fingerprints == parts.fingerprints
    assert again.tasks["extra"].text == parts.tasks["extra"].text == ("sentence", "sentence")
    assert list(again.train_rows["extra"].ids) == list(parts.train_rows["extra"].ids)
