"""Tables are read as they are found: what separates and encloses their fields is told by their lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polytask.data.tables.layout import Layout
from polytask.data.tables.sources import Source, header, read_table
from polytask.errors import TableError

TEXTS = [
    "A fine day, all in all",
    "It rained; nobody came",
    'The "best" of them',
    "They went home early",
    "None of it's new",
]
LABELS = ["good", "bad", "good", "bad", "bad"]
Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(content: str | bytes, name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def both(source: Source, **layout: Any) -> tuple[list[str | None], list[str | None]]:
    table = read_table(source, ["text", "label"], layout=Layout(**layout))
    assert table.broken == []
    return list(table.columns["text"]), list(table.columns["label"])


def written(**dialect: Any) -> str:
    memory = io.StringIO(newline="")
    csv.writer(memory, lineterminator="\n", **dialect).writerows(
        [("text", "label"), *zip(TEXTS * 4, LABELS * 4, strict=True)]
    )
    return memory.getvalue()


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("t.csv", {}),
        ("t.csv", {"quoting": csv.QUOTE_ALL}),
        ("t.csv", {"delimiter": ";"}),
        ("t.csv", {"delimiter": "|"}),
        ("t.csv", {"delimiter": "\t"}),
        ("t.csv", {"quotechar": "'", "quoting": csv.QUOTE_ALL}),
        ("t.csv", {"quotechar": "'", "quoting": csv.QUOTE_ALL, "delimiter": ";"}),
        ("t.csv", {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL}),
        ("t.tsv", {"delimiter": "\t"}),
        ("t.tsv", {"delimiter": "\t", "quoting": csv.QUOTE_ALL}),
        ("t.txt", {"delimiter": "\t"}),
        ("t.tab", {"delimiter": "\t"}),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_whatever_a_program_writes_is_read_back(put: Put, name: str, dialect: dict[str, Any], packed: bool) -> None:
    content = written(**dialect).encode()
    path = put(gzip.compress(content), f"{name}.gz") if packed else put(content, name)
    assert both(path) == (TEXTS * 4, LABELS * 4)


def test_excel_says_its_separator(put: Put) -> None:
    assert both(put("sep=;\n" + written(delimiter=";"), "t.csv")) == (TEXTS * 4, LABELS * 4)


def test_between_tabs_quotes_are_letters(put: Put) -> None:
    texts = ['"Well," he said', 'a 5" disk', 'she left."', '"all of it"', '"']
    lines = ["text\tlabel", *("\t".join(row) for row in zip(texts, LABELS, strict=True))]
    assert both(put("\n".join(lines) + "\n", "t.tsv")) == (texts, LABELS)


def test_a_quote_that_opens_in_one_row_and_closes_in_another_takes_none_of_them(put: Put) -> None:
    texts = ["It's fine", '"Never, he said', "no", 'again"', "so"]
    lines = [f"{label}\t{text}" for text, label in zip(texts, LABELS, strict=True)]
    assert both(put("\n".join(["label\ttext", *lines]) + "\n", "t.tsv"))[0] == texts


def swallowing() -> str:
    rows = [(f"row {number} of many", ("good", "bad")[number % 2]) for number in range(20)]
    lines = ["text,label", *(f"{text},{label}" for text, label in rows)]
    lines[5], lines[8] = '"he said nothing,good', 'and then left",bad'
    lines[12] = '"a text, with a comma",good'
    return "\n".join(lines) + "\n"


def test_a_quotation_that_swallows_rows_is_told_and_costs_no_other_row(put: Put) -> None:
    table = read_table(put(swallowing(), "t.csv"), ["text", "label"])
    (problem,) = table.broken
    assert str(problem) == (
        'line 6: the quote opened on line 6 closes on line 9 and makes one row of 4; quote = "none" reads quotes as letters'
    )
    assert len(table) == 19
    assert table.columns["text"][4:7] == ["row 5 of many", "row 6 of many", 'and then left"']


def test_a_text_of_several_lines_is_one_text(put: Put) -> None:
    texts = ["Dear all,\nthank you, and good bye", "one", "two\n\nthree", "Hi,\nyes", "so"]
    memory = io.StringIO(newline="")
    csv.writer(memory).writerows([("text", "label"), *zip(texts * 3, LABELS * 3, strict=True)])
    assert both(put(memory.getvalue(), "t.csv")) == (texts * 3, LABELS * 3)


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ({"delimiter": "~"}, "text~label\nfine, really~good\n"),
        ({"quote": "none"}, 'text,label\n"fine,good\n'),
        ({"columns": ("text", "label")}, "really fine;good\n"),
        ({"columns": ("text", "label"), "header": False}, "really fine\tgood\n"),
        ({"columns": ("text", "label"), "header": True}, "a|b\nfine, really|good\n"),
        ({"columns": ("label", "text")}, "text;label\nfine, really;good\n"),
    ],
)
def test_what_is_given_is_not_looked_for(put: Put, options: dict[str, Any], content: str) -> None:
    text, label = both(put(content, "t.csv"), **options)
    assert (text, label) in ((["fine, really"], ["good"]), (["really fine"], ["good"]), (['"fine'], ["good"]))


def test_columns_of_another_number(put: Put) -> None:
    with pytest.raises(TableError, match=r"t\.csv: 3 columns are named, and its first line has 2 fields\."):
        read_table(put("a,b\n", "t.csv"), ["text"], layout=Layout(columns=("id", "text", "label")))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("t.json", [{"text": "fine", "label": 1}, {"text": "so", "label": 0}]),
        ("t.json", {"data": [{"text": "fine", "label": 1}, {"text": "so", "label": 0}]}),
        ("t.json", {"text": ["fine", "so"], "label": [1, 0]}),
    ],
)
def test_json_in_its_layouts(put: Put, name: str, value: Any) -> None:
    assert both(put(json.dumps(value, indent=1), name)) == (["fine", "so"], ["1", "0"])


def test_json_lines_called_json(put: Put) -> None:
    assert both(put('{"text": "fine", "label": 1}\n{"text": "so", "label": 0}\n', "t.json")) == (
        ["fine", "so"],
        ["1", "0"],
    )


def test_lines_that_begin_with_their_label(put: Put) -> None:
    content = "WHY:reason Why is it so ?\nWHO:name Who was that ?\n"
    table = read_table(put(content, "t.label"), ["label", "coarse", "text"])
    assert [list(cells) for cells in table.columns.values()] == [
        ["WHY:reason", "WHO:name"],
        ["WHY", "WHO"],
        ["Why is it so ?", "Who was that ?"],
    ]
    assert header(put("__label__1 fine\n__label__0 so\n", "f.label")) == ["label", "text"]
    assert both(put("__label__1 fine\n__label__0 so\n", "f.txt"), format="label") == (["fine", "so"], ["1", "0"])


def test_a_file_for_each_column(put: Put) -> None:
    files = {"text": put("fine\nso, so\n", "x.txt"), "label": put("1\n0\n", "y.txt")}
    assert both(files) == (["fine", "so, so"], ["1", "0"])
    put("1\n0\n1\n", "y.txt")
    with pytest.raises(TableError, match=r"x\.txt has 2 lines, and .*y\.txt has more"):
        both(files)


def test_a_workbook(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (("text", "label"), ("fine", 1), (None, None), ("so", 0.0)):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    assert both(tmp_path / "t.xlsx") == (["fine", "so"], ["1", "0"])


def test_columns_in_memory() -> None:
    assert both({"text": ["fine", "so"], "label": [True, False]}) == (["fine", "so"], ["true", "false"])
    with pytest.raises(TableError, match="different numbers of rows: 'text' 1, 'label' 0"):
        both({"text": ["fine"], "label": []})


def test_cells_that_stand_for_nothing(put: Put) -> None:
    path = put("text,label\nfine,1\nnan,-\n", "t.csv")
    assert both(path) == (["fine", "nan"], ["1", "-"])
    assert both(path, missing=("nan", "-")) == (["fine", None], ["1", None])


def test_an_option_that_would_do_nothing(put: Put) -> None:
    with pytest.raises(
        TableError, match=r"t\.jsonl takes no 'delimiter' and 'quote': those are of text files with columns"
    ):
        both(put('{"text": "fine", "label": 1}\n', "t.jsonl"), delimiter=";", quote="'")
