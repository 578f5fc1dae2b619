"""The layouts in which people publish tables, rebuilt small: what `init` makes of each, and that it trains."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polytask.data.tables.layout import Layout
from polytask.errors import TableError
from polytask.recipe.load import load_recipe
from polytask.starter.first import first_recipe
from polytask.starter.layouts import find_layout, headerless, name_columns
from polytask.starter.survey import Choices

PLACES = ["harbour", "station", "market", "bridge", "tower", "garden", "school"]
TEXTS = [f"We met {n} people near the old {PLACES[n % 7]} on day {n}" for n in range(30)]
Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(name: str, lines: list[str], encoding: str = "utf-8") -> Path:
        (tmp_path / name).write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
        return tmp_path / name

    return write


def recipe(tmp_path: Path, *tables: Path, choices: Choices = Choices()) -> tuple[dict[str, Any], list[str]]:  # noqa: B008
    out = tmp_path / "first.toml"
    notes = first_recipe(tables, out, choices)
    load_recipe(out)  # it is valid
    return tomllib.loads(out.read_text(encoding="utf-8")), notes


LAYOUTS: dict[str, tuple[str, list[str], str, dict[str, Any]]] = {
    "acceptability, no header": (
        "judged-train.tsv",
        [f"src{n % 2}\t{n % 2}\t{'*' if n % 3 else ''}\t{text}" for n, text in enumerate(TEXTS)],
        "utf-8",
        {"kind": "binary", "text": "text", "label": "label", "columns": ["column 1", "label", "column 3", "text"]},
    ),
    "scores of pairs, no header": (
        "pairs.tsv",
        [f"{n / 7:.2f}\t{text}\t{TEXTS[n - 1]}" for n, text in enumerate(TEXTS)],
        "utf-8",
        {"text": ["text1", "text2"], "label": "label", "columns": ["label", "text1", "text2"]},
    ),
    "topics, no header, all quoted": (
        "news.csv",
        [f'"{n % 4 + 1}","{text}"' for n, text in enumerate(TEXTS)],
        "utf-8",
        {"kind": "classification", "text": "text", "label": "label", "columns": ["label", "text"]},
    ),
    "semicolons and cp1252": (
        "export.csv",
        ["Text;Urteil", *(f"Café, {text};{('gut', 'schlecht')[n % 2]}" for n, text in enumerate(TEXTS))],
        "cp1252",
        {"kind": "classification", "text": "Text", "label": "Urteil", "encoding": "cp1252"},
    ),
    "a spreadsheet's text in utf-16": (
        "export.txt",
        ["text\tlabel", *(f"{text}\t{n % 2}" for n, text in enumerate(TEXTS))],
        "utf-16",
        {"kind": "binary", "text": "text", "label": "label"},
    ),
    "a column for each label": (
        "moods.csv",
        ["id,text,anger,joy", *(f"{n},{text},{n % 2},{int(n % 3 == 0)}" for n, text in enumerate(TEXTS))],
        "utf-8",
        {"kind": "multilabel", "text": "text", "label": ["anger", "joy"]},
    ),
    "fine and coarse labels before the text": (
        "questions.label",
        [f"{('WHO:name', 'WHERE:place')[n % 2]} {text} ?" for n, text in enumerate(TEXTS)],
        "utf-8",
        {"kind": "classification", "text": "text", "label": "label"},
    ),
    "lists of numbers": (
        "fine-emotions.tsv",
        [f"{text}\t{('3', '3,14', '27', '14')[n % 4]}\tid{n}" for n, text in enumerate(TEXTS)],
        "utf-8",
        {"kind": "multilabel", "text": "text", "label": "label", "columns": ["text", "label", "id"]},
    ),
    "json lines called json": (
        "topics.json",
        [f'{{"sentence": "{text}", "label": "{100 + n % 3}"}}' for n, text in enumerate(TEXTS)],
        "utf-8",
        {"kind": "classification", "text": "sentence", "label": "label"},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_is_read_as_it_is(put: Put, tmp_path: Path, layout: str) -> None:
    name, lines, encoding, wanted = LAYOUTS[layout]
    tables, _ = recipe(tmp_path, put(name, lines, encoding))
    (task,) = tables["tasks"].values()
    assert {key: task.get(key) for key in wanted} == wanted
    assert {"columns", "encoding"} & task.keys() <= wanted.keys()
    assert "bad_rows" not in task


def test_a_label_that_is_a_score_of_pairs_has_its_range(put: Put, tmp_path: Path) -> None:
    name, lines, _, _ = LAYOUTS["scores of pairs, no header"]
    tables, _ = recipe(tmp_path, put(name, lines))
    assert tables["tasks"]["pairs"]["kind"] == {"name": "regression", "range": [0.0, 5.0]}


def test_words_in_order_are_written_out_to_be_put_in_order(put: Put, tmp_path: Path) -> None:
    path = put(
        "risk.csv", ["text,risk", *(f"{text},{('low', 'medium', 'high')[n % 3]}" for n, text in enumerate(TEXTS))]
    )
    tables, _ = recipe(tmp_path, path, choices=Choices(kind="ordinal"))
    assert tables["tasks"]["risk"]["labels"] == ["low", "medium", "high"]


def test_one_table_that_cannot_be_read_stops_no_other(put: Put, tmp_path: Path) -> None:
    good = put("good.csv", ["text,label", *(f"{text},{n % 2}" for n, text in enumerate(TEXTS))])
    bad = put("bad.csv", ["text", *TEXTS])
    tables, notes = recipe(tmp_path, bad, good)
    assert list(tables["tasks"]) == ["good"]
    assert any(f"{bad}: none of the columns" in note and "It is left out." in note for note in notes)
    with pytest.raises(TableError, match="looks like a label"):
        first_recipe([bad], tmp_path / "none.toml")


def test_tables_called_train_are_named_by_their_folders(put: Put, tmp_path: Path) -> None:
    for folder in ("moods", "topics"):
        (tmp_path / folder).mkdir()
    paths = [
        put(f"{folder}/train.csv", ["text,label", "a b c d,1", "e f g h,0", "i j k,1"])
        for folder in ("moods", "topics")
    ]
    assert list(recipe(tmp_path, *paths)[0]["tasks"]) == ["moods", "topics"]


def test_small_tables_get_more_passes(put: Put, tmp_path: Path) -> None:
    small = recipe(tmp_path, put("s.csv", ["text,label", *(f"{text},{n % 2}" for n, text in enumerate(TEXTS))]))[0]
    (tmp_path / "first.toml").unlink()
    rows = [f"{text} {m},{n % 2}" for m in range(100) for n, text in enumerate(TEXTS)]
    large = recipe(tmp_path, put("l.csv", ["text,label", *rows]))[0]
    assert small["stages"][0]["epochs"] > large["stages"][0]["epochs"]


@pytest.mark.parametrize(
    ("first", "rows", "wanted"),
    [
        (["text", "label"], [["a b", "0"], ["c d", "1"]], False),
        (["comment", "grade"], [["so it was", "3"], ["and it is", "5"]], False),
        (["0", "1"], [["so it was", "3"], ["and it is", "5"]], False),
        (["so it is now", "5"], [["so it was then", "3"], ["and it is so", "5"]], True),
        (["5", "fine"], [["3", "bad"], ["4", "fine"]], True),
        (["pos", "What a day it was"], [["neg", "What a rainy day"], ["pos", "Such a fine day"]], True),
    ],
)
def test_a_first_line_that_is_a_row(first: list[str], rows: list[list[str | None]], wanted: bool) -> None:
    assert headerless(first, rows) is wanted


def test_columns_without_names_are_named_by_what_they_hold() -> None:
    rows: list[list[str | None]] = [[str(n), "What a day it was", "no" if n % 2 else "yes"] for n in range(8)]
    assert name_columns(rows) == ["id", "text", "label"]


def test_what_is_given_is_not_looked_for(put: Put) -> None:
    name, lines, encoding, _ = LAYOUTS["semicolons and cp1252"]
    path = put(name, lines, encoding)
    given = Layout(encoding="latin-1", header=True)
    assert find_layout(path, given)[0] == given
