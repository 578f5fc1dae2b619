"""A task's table: every bad row is told by file, line and column, and a dev set is split off fairly."""

from __future__ import annotations

from pathlib import Path

import pytest

from polytask.data.tables.examples import draw_rows, read_examples
from polytask.errors import TableError
from polytask.tasks.kinds.base import kinds

GOOD = "id,text,label\na,one,0\nb,two,1\n"


def write(folder: Path, content: str) -> Path:
    path = folder / "table.csv"
    path.write_text(content, encoding="utf-8")
    return path


def refusal(path: Path, **options: str | None) -> str:
    kind = kinds.create("binary", {"0": "no", "1": "yes"})
    with pytest.raises(TableError) as caught:
        read_examples(path, ["text"], "label", options.get("id"), "stop", kind.encode)
    return str(caught.value)


def test_a_good_table_is_read_as_it_stands(tmp_path: Path) -> None:
    data = read_examples(write(tmp_path, GOOD), ["text"], "label", None, "stop")
    assert data.texts == [["one", "two"]]
    assert data.labels == ["0", "1"]
    assert data.ids == ["a", "b"]
    assert list(data.places) == [2, 3]
    assert (data.skipped, len(data), data.unit) == (0, 2, "line")


def test_rows_without_an_id_column_are_numbered(tmp_path: Path) -> None:
    assert read_examples(write(tmp_path, "text\none\ntwo\n"), ["text"], None, None, "stop").ids == ["1", "2"]


def test_another_id_column_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, "id,key,text,label\nx,k1,one,0\nx,k2,two,1\n")
    assert read_examples(path, ["text"], "label", "key", "stop").ids == ["k1", "k2"]


def test_every_bad_row_is_told_with_file_line_and_column(tmp_path: Path) -> None:
    path = write(tmp_path, 'id,text,label\na,,0\nb,two,\nc,three,7\na,"fo\nur",1\ne,five,1\nf,six,1,extra\n')
    lines = refusal(path).split("\n")
    assert lines[0].startswith(f"{path}: 5 rows are broken")
    assert lines[1:4] == [
        "  line 2, column 'text': the text is empty",
        "  line 3, column 'label': there is no label",
        "  line 4, column 'label': '7' is not one of the labels '0' and '1'.",
    ]
    assert lines[4] == "  line 5, column 'id': the id 'a' was already used in line 2"
    assert lines[5].startswith("  line 8: ")
    assert len(lines) == 6


def test_a_missing_id_is_told(tmp_path: Path) -> None:
    assert "line 2, column 'id': there is no id" in refusal(write(tmp_path, "id,text,label\n,one,0\n"), id="id")


def test_skipped_rows_are_counted_once_each_and_the_rest_keeps_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, "id,text,label\na,one,0\nb,,\nc,three,7\nd,four,1\ne,five\n")
    kind = kinds.create("binary", {"0": "no", "1": "yes"})
    data = read_examples(path, ["text"], "label", None, "skip", kind.encode)
    assert data.skipped == 3
    assert data.ids == ["a", "d"]
    assert data.texts == [["one", "four"]]
    assert list(data.places) == [2, 5]


def test_labels_are_not_asked_for_where_none_are_wanted(tmp_path: Path) -> None:
    data = read_examples(write(tmp_path, "text,label\none,\n"), ["text"], None, None, "stop")
    assert (data.texts, data.labels) == ([["one"]], [])


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    first = read_examples(write(tmp_path, GOOD), ["text"], "label", None, "stop").fingerprint
    assert read_examples(write(tmp_path, GOOD), ["text"], "label", None, "stop").fingerprint == first
    assert read_examples(write(tmp_path, GOOD + "c,x,1\n"), ["text"], "label", None, "stop").fingerprint != first


def test_taking_rows_takes_all_their_columns(tmp_path: Path) -> None:
    data = read_examples(write(tmp_path, GOOD), ["text"], "label", None, "stop").take([1])
    assert (data.texts, data.labels, data.ids, list(data.places)) == ([["two"]], ["1"], ["b"], [3])


def test_drawn_rows_keep_their_order_and_follow_the_key() -> None:
    rows = draw_rows(100, 10, 0, "sst", "train")
    assert rows == sorted(set(rows)) == draw_rows(100, 10, 0, "sst", "train")
    assert len(rows) == 10
    assert rows != draw_rows(100, 10, 0, "sst", "dev")
    assert draw_rows(5, None, 0) == draw_rows(5, 9, 0) == [0, 1, 2, 3, 4]
