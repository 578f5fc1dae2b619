"""A task's table: every bad row is told by file, line and column, and a dev set is split off fairly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from polytask.data.tables.examples import Examples, dev_split, draw_rows, read_examples
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


def made(texts: list[str], labels: list[str]) -> Examples:
    count = len(texts)
    return Examples("t.csv", [texts], labels, [str(n) for n in range(count)], list(range(count)), "row", 0, "")


UNEVEN = made([f"text {n}" for n in range(400)], ["rare" if n % 20 == 0 else "common" for n in range(400)])


def test_a_dev_split_is_stratified_and_loses_no_row() -> None:
    train, dev = dev_split(UNEVEN, 0.25, True, 0, "sst")
    assert sorted(train + dev) == list(range(400))
    assert Counter(UNEVEN.labels[row] for row in dev) == {"rare": 5, "common": 95}
    assert train == sorted(train)
    assert dev == sorted(dev)


def test_a_dev_split_is_the_same_for_the_same_key_alone() -> None:
    assert dev_split(UNEVEN, 0.25, True, 0, "sst") == dev_split(UNEVEN, 0.25, True, 0, "sst")
    assert dev_split(UNEVEN, 0.25, True, 0, "sst") != dev_split(UNEVEN, 0.25, True, 1, "sst")
    assert dev_split(UNEVEN, 0.25, True, 0, "sst") != dev_split(UNEVEN, 0.25, True, 0, "sts")


def test_equal_texts_lie_on_one_side_whatever_their_case_and_label() -> None:
    texts = [f"{' Text' if n % 2 else 'text'} {n // 4}" for n in range(200)]
    data = made(texts, [str(n % 2) for n in range(200)])
    train, dev = dev_split(data, 0.3, True, 0, "x")
    assert not {texts[row].strip().lower() for row in train} & {texts[row].strip().lower() for row in dev}
    assert len(dev) == pytest.approx(60, abs=4)


def test_a_split_without_strata_has_the_share_too() -> None:
    data = made([f"text {n}" for n in range(200)], [str(n / 7) for n in range(200)])
    assert len(dev_split(data, 0.1, False, 0, "sts")[1]) == 20


@pytest.mark.parametrize(("share", "side"), [(0.1, "dev"), (0.9, "train")])
def test_a_share_that_leaves_one_side_empty_is_refused(share: float, side: str) -> None:
    with pytest.raises(TableError, match=rf"t\.csv has 4 rows: a dev share of {share} leaves none for {side}"):
        dev_split(made(["a", "b", "c", "d"], ["0", "1", "2", "3"]), share, True, 0, "x")


def test_drawn_rows_keep_their_order_and_follow_the_key() -> None:
    rows = draw_rows(100, 10, 0, "sst", "train")
    assert rows == sorted(set(rows)) == draw_rows(100, 10, 0, "sst", "train")
    assert len(rows) == 10
    assert rows != draw_rows(100, 10, 0, "sst", "dev")
    assert draw_rows(5, None, 0) == draw_rows(5, 9, 0) == [0, 1, 2, 3, 4]
