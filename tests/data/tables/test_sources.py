from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import math
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from polytask.data.tables import sources, textfiles
from polytask.data.tables.layout import Layout
from polytask.data.tables.problems import RowProblem
from polytask.data.tables.sources import Table, header, read_table, rows_of
from polytask.errors import TableError, Unavailable

Put: TypeAlias = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write a file and return its path."""

    def write(content: str | bytes, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def refused(source: Any, columns: list[str]) -> str:
    with pytest.raises(TableError) as caught:
        read_table(source, columns)
    return str(caught.value)


def held(table: Table) -> dict[str, list[str | None]]:
    return {name: list(cells) for name, cells in table.columns.items()}


def broken(table: Table) -> list[str]:
    return [str(problem) for problem in table.broken]


# What is read


def test_only_the_columns_asked_for_are_kept_in_the_order_asked(put: Put) -> None:
    table = read_table(put("a,b,c\n1,2,3\n4,5,6\n"), ["c", "a"])
    assert [(name, list(cells)) for name, cells in table.columns.items()] == [("c", ["3", "6"]), ("a", ["1", "4"])]
    assert (len(table), list(table.places), table.broken, table.unit) == (2, [2, 3], [], "line")


def test_a_column_asked_for_twice_is_read_once(put: Put) -> None:
    assert read_table(put("a,b\n1,2\n"), ["a", "a"], optional=["a"]).columns == {"a": ["1"]}


def test_an_optional_column_is_read_when_it_is_there(put: Put) -> None:
    table = read_table(put("a,id\n1,x\n"), ["a"], optional=["id", "label"])
    assert table.columns == {"a": ["1"], "id": ["x"]}


def test_the_name_is_the_path_as_written(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(put("a\n1\n").parent)
    assert read_table("./table.csv", ["a"]).name == "./table.csv"


def test_the_fingerprint_is_the_hash_of_the_bytes(put: Put) -> None:
    content = b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n3\r\n"
    assert read_table(put(content), ["a"]).fingerprint == hashlib.sha256(content).hexdigest()


def test_a_quote_that_is_put_back_is_hashed_once(put: Put) -> None:
    content = b'a,b\n1,"x\n2,y\n'
    assert read_table(put(content), ["a"]).fingerprint == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("mark", "name"), [(",", "t.csv"), ("\t", "t.csv"), (";", "t.csv"), ("\t", "t.tsv"), (",", "T.CSV")]
)
def test_the_delimiter_is_seen_in_the_header(put: Put, mark: str, name: str) -> None:
    path = put(f'a{mark}b{mark}c\n1{mark}"x{mark}y"{mark}p,q;r\n'.replace("p,q;r", "p"), name)
    assert header(path) == ["a", "b", "c"]
    assert read_table(path, ["b"]).columns == {"b": [f"x{mark}y"]}


def test_a_tab_separated_table_may_hold_commas(put: Put) -> None:
    assert read_table(put("text\tlabel\nwell, well; well\t1\n"), ["text"]).columns == {"text": ["well, well; well"]}


def test_unnamed_columns_are_numbered(put: Put) -> None:
    path = put("\tid\t\tlabel\n0\tx\ty\t1.0\n")
    assert header(path) == ["column 1", "id", "column 3", "label"]
    assert read_table(path, ["column 3", "label"]).columns == {"column 3": ["y"], "label": ["1.0"]}


def test_a_header_of_one_column(put: Put) -> None:
    assert read_table(put('text\none\n\n"two, three"\n'), ["text"]).columns == {"text": ["one", "two, three"]}


def test_a_byte_order_mark_and_crlf_are_not_part_of_the_text(put: Put) -> None:
    table = read_table(put(b"\xef\xbb\xbfa,b\r\n1,2\r\n3,4\r\n"), ["a", "b"])
    assert table.columns == {"a": ["1", "3"], "b": ["2", "4"]}


def test_a_byte_order_mark_before_jsonl(put: Put) -> None:
    assert read_table(put(b'\xef\xbb\xbf{"a": "x"}\n', "t.jsonl"), ["a"]).columns == {"a": ["x"]}


def test_quotes_line_ends_and_empty_cells(put: Put) -> None:
    table = read_table(put('a,b\n"say ""hi""","two\nlines"\n,x\n"",y\n"r\r\nn",z'), ["a", "b"])
    assert table.columns == {"a": ['say "hi"', None, None, "r\r\nn"], "b": ["two\nlines", "x", "y", "z"]}
    assert list(table.places) == [2, 4, 5, 6]


def test_a_stray_quote_inside_an_unquoted_text_is_text(put: Put) -> None:
    table = read_table(put('a,b\n a 5" disk ,x\n " spaced ","quoted"\n'), ["a", "b"])
    assert table.columns == {"a": [' a 5" disk ', ' " spaced "'], "b": ["x", "quoted"]}


def test_between_tabs_a_quote_is_a_letter(put: Put) -> None:
    table = read_table(put('a\tb\n a 5" disk \tx\n "spaced\t"quoted"\n'), ["a", "b"])
    assert table.columns == {"a": [' a 5" disk ', ' "spaced'], "b": ["x", '"quoted"']}


def test_blank_lines_are_passed_over_and_counted(put: Put) -> None:
    table = read_table(put("\n\na,b\n\n1,2\n\n3,4\n\n"), ["a"])
    assert (held(table), list(table.places)) == ({"a": ["1", "3"]}, [5, 7])


@pytest.mark.parametrize("text", ["x" * 200_000, "שלום עולם", "👩‍👩‍👧 🎉", "bell\x07 and\x1b[0m", "a\u2028b\x0bc\x85d"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_long_and_strange_texts_are_texts(put: Put, text: str, name: str) -> None:
    row = f"{text},1" if name == "t.csv" else json.dumps({"a": text, "b": 1}, ensure_ascii=False)
    table = read_table(put(f"a,b\n{row}\n" if name == "t.csv" else row, name), ["a", "b"])
    assert table.columns == {"a": [text], "b": ["1"]}


cells = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells), min_size=1), mark=st.sampled_from([",", "\t", ";"]), given=st.booleans())
def test_any_rows_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], mark: str, given: bool
) -> None:
    # What a reader has to find for itself it can be misled about, by tabs at the right places within the texts.
    layout = Layout(delimiter=mark, quote='"') if given else Layout()
    assume(given or (mark == "," and "'" not in str(rows)))
    memory = io.StringIO(newline="")
    writer = csv.writer(memory, delimiter=mark)
    writer.writerows([("id", "text", "label"), *((str(at), *row) for at, row in enumerate(rows))])
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    path.write_bytes(memory.getvalue().encode())
    table = read_table(path, ["text", "id", "label"], layout=layout)
    assert table.broken == []
    assert table.columns["id"] == [str(at) for at in range(len(rows))]
    assert list(zip(table.columns["text"], table.columns["label"], strict=True)) == [
        (text or None, label or None) for text, label in rows
    ]


@settings(max_examples=150, deadline=None)
@given(content=st.text(st.sampled_from('a,"\n\r\t{}é')) | st.binary())
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: str | bytes, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with contextlib.suppress(TableError):
        names = header(path)
        table = read_table(path, [name for name in names if names.count(name) == 1])
        places = [*table.places, *(problem.place for problem in table.broken)]
        assert len(set(places)) == len(places) > 0


# Rows that are broken


def test_ragged_rows_are_named_and_left_out(put: Put) -> None:
    table = read_table(put("a,b\n1,2\n3\n4,5,6\n7,8\n"), ["a"])
    assert table.columns == {"a": ["1", "7"]}
    assert broken(table) == ["line 3: 1 field where the header has 2", "line 4: 3 fields where the header has 2"]


def test_a_ragged_row_over_several_lines_says_where_it_ends(put: Put) -> None:
    table = read_table(put('a,b\n"1\n2\n3"\n4,5\n'), ["a"])
    assert broken(table) == ["line 2: 1 field where the header has 2; a quoted text in it runs to line 4"]


def test_an_unclosed_quote_names_its_line_and_costs_no_other_row(put: Put) -> None:
    table = read_table(put('a,b\n1,2\n3,"four\n5,6\n7,8\n'), ["a", "b"])
    assert broken(table) == ["line 3: the quote opened on line 3 never closes"]
    assert (list(table.columns["b"]), list(table.places)) == (["2", "6", "8"], [2, 4, 5])


def test_an_unclosed_quote_that_meets_the_next_one(put: Put) -> None:
    table = read_table(put('a,b\n1,"two\n3,4\n5,"six"\n7,8\n'), ["a", "b"])
    assert broken(table) == ["line 2: the quote opened on line 2 is not closed before line 4, where text follows it"]
    assert table.columns == {"a": ["3", "5", "7"], "b": ["4", "six", "8"]}


def test_a_quote_opened_later_in_a_row_of_several_lines_is_named_by_its_own_line(put: Put) -> None:
    table = read_table(put('a,b\n"one\ntwo","three\n5,6\n'), ["a"])
    assert broken(table)[0] == "line 2: the quote opened on line 3 never closes"


def test_text_after_a_closing_quote(put: Put) -> None:
    table = read_table(put('a,b\n"Hi" she said,1\nx,2\n'), ["a"])
    assert broken(table) == ['line 2: text follows a closing quote (a quote inside a quoted text is written twice: "")']
    assert table.columns == {"a": ["x"]}


def test_a_bare_carriage_return(put: Put) -> None:
    table = read_table(put("a,b\nx\ry,1\nz,2\n"), ["a"])
    assert broken(table) == ["line 2: a carriage return stands outside quotes"]


def test_an_unclosed_quote_is_given_up_after_the_longest_text(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    before = csv.field_size_limit(100)
    monkeypatch.setattr(textfiles, "LONGEST_TEXT", 100)
    try:
        table = read_table(put('a,b\n1,"x\n' + "2,y\n" * 60 + "z" * 101 + ",3\n"), ["a"])
    finally:
        csv.field_size_limit(before)
    assert broken(table) == [
        "line 2: the quote opened on line 2 never closes",
        "line 63: a text is longer than 100 characters",
    ]
    assert len(table) == 60


def test_broken_json_lines(put: Put) -> None:
    lines = ['{"a": "x"}', '{"a": ', "[1]", '{"a": [1]}', r'{"a": "\ud800"}', "", "[" * 100_000, '{"a": 1}']
    table = read_table(put("\n".join(lines), "t.jsonl"), ["a"])
    assert (held(table), list(table.places)) == ({"a": ["x", "1"]}, [1, 8])
    told = broken(table)
    assert told[:4] == [
        "line 2: not JSON: Expecting value at character 7",
        "line 3: a JSON list, where an object is wanted",
        "line 4, column 'a': holds a list, where text or a number is wanted",
        "line 5, column 'a': holds half of a surrogate pair, which no UTF-8 text can hold",
    ]
    assert told[4].startswith("line 7: not JSON")


def test_a_table_of_broken_rows_only_is_left_to_the_audit(put: Put) -> None:
    table = read_table(put("a,b\n1\n"), ["a"])
    assert (len(table), len(table.broken)) == (0, 1)


# Values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (1.0, "1.0"),
        (1e-7, "1e-07"),
        (True, "true"),
        (False, "false"),
        (None, None),
        (math.nan, None),
        (math.inf, "inf"),
        ("", None),
        (" ", " "),
        (Decimal("1.50"), "1.50"),
        (np.int64(3), "3"),
        (np.float64(1.0), "1.0"),
        (np.bool_(True), "true"),
        (np.str_("x"), "x"),
    ],
)
def test_a_value_becomes_text_by_the_rule(value: object, text: str | None) -> None:
    assert read_table([{"a": value}], ["a"]).columns == {"a": [text]}


def test_a_list_of_dicts() -> None:
    table = read_table([{"a": "x", "b": 1}, {"b": 2, "c": {}}, {"a": {}}], ["a"], optional=["b"])
    assert (table.name, table.unit, list(table.places)) == ("<list of dicts>", "row", [1, 2])
    assert table.columns == {"a": ["x", None], "b": ["1", "2"]}
    assert broken(table) == ["row 3, column 'a': holds a dict, where text or a number is wanted"]


def test_the_fingerprint_of_values_follows_the_values() -> None:
    prints = {
        read_table(source, [*source[0]]).fingerprint
        for source in ([{"a": "x"}], [{"a": "y"}], [{"b": "x"}], [{"a": "x"}, {"a": "x"}], [{"a": "x", "b": None}])
    }
    assert len(prints) == 5
    assert read_table([{"a": "x"}], ["a"]).fingerprint == read_table([{"a": "x", "b": 1}], ["a"]).fingerprint


def test_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["x", None], "n": [1.0, math.nan], "flag": [True, False], 7: [1, 2]})
    frame["whole"] = pandas.array([1, None], dtype="Int64")
    frame["when"] = pandas.to_datetime(pandas.Series([None, None]))
    table = read_table(frame, ["n", "text", "flag", "7", "whole", "when"])
    assert (table.name, list(table.places), table.broken) == ("<DataFrame>", [1, 2], [])
    assert list(table.columns.values()) == [
        ["1.0", None],
        ["x", None],
        ["true", "false"],
        ["1", "2"],
        ["1", None],
        [None, None],
    ]
    assert header(frame) == ["text", "n", "flag", "7", "whole", "when"]


def test_json_lines(put: Put) -> None:
    path = put('{"a": "x", "n": 1.0}\n\n{"a": null, "n": NaN, "late": true}\r\n', "t.ndjson")
    table = read_table(path, ["a", "n"], optional=["late", "never"])
    assert table.columns == {"a": ["x", None], "n": ["1.0", None], "late": [None, "true"]}
    assert list(table.places) == [1, 3]
    assert header(path) == ["a", "n", "late"]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    columns = {"text": ["x", ""] * 1500, "label": [1, None] * 1500, "more": [[1], [2]] * 1500}
    parquet.write_table(pyarrow.table(columns), path)
    table = read_table(path, ["label", "text"])
    assert header(path) == ["text", "label", "more"]
    assert table.columns == {"label": ["1", None] * 1500, "text": ["x", None] * 1500}
    assert (table.unit, len(table), table.places[-1]) == ("row", 3000, 3000)
    assert table.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (
        broken(read_table(path, ["more"]))[0] == "row 1, column 'more': holds a list, where text or a number is wanted"
    )


def test_rows_one_by_one(put: Put) -> None:
    path = put("a,b\n1,2\n3\n4,5\n")
    assert list(rows_of(path, ["b"])) == [(2, ["2"]), RowProblem(3, None, "1 field where the header has 2"), (4, ["5"])]
    with pytest.raises(TableError, match="has a header but no rows"):
        list(rows_of(put("a,b\n"), ["a"]))
    with pytest.raises(TableError, match="has no column 'c'"):
        list(rows_of(path, ["c"]))


# The hub


class FakeSet:
    """What is used of ``datasets.Dataset``."""

    def __init__(self, columns: dict[str, list[object]]) -> None:
        self.columns = columns

    @property
    def column_names(self) -> list[str]:
        return list(self.columns)

    def select_columns(self, names: list[str]) -> FakeSet:
        return FakeSet({name: self.columns[name] for name in names})

    def iter(self, batch_size: int) -> Iterator[dict[str, list[object]]]:
        yield self.columns


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, str]]:
    """Put a stand-in for the package datasets in place, and return the calls it gets."""
    calls: list[tuple[str, str | None, str]] = []

    def load_dataset(name: str, config: str | None, *, split: str) -> FakeSet:
        calls.append((name, config, split))
        if name == "unknown":
            raise FileNotFoundError("no such data set")
        if name == "far":
            raise ConnectionError("no route")
        return FakeSet({"text": ["x", "y"], "label": [1, None]})

    module = ModuleType("datasets")
    monkeypatch.setattr(module, "load_dataset", load_dataset, raising=False)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


@pytest.mark.parametrize(
    ("address", "call"),
    [
        ("hub:SetFit/sst5:train", ("SetFit/sst5", None, "train")),
        ("hub:nyu-mll/glue:stsb:validation", ("nyu-mll/glue", "stsb", "validation")),
        ("hub:imdb:train[:10%]", ("imdb", None, "train[:10%]")),
        ("hub:a/b:c:train[5:10]", ("a/b", "c", "train[5:10]")),
    ],
)
def test_an_address_on_the_hub(
    hub: list[tuple[str, str | None, str]], address: str, call: tuple[str, str | None, str]
) -> None:
    table = read_table(address, ["label", "text"])
    assert hub == [call]
    assert (table.name, table.unit, table.columns) == (address, "row", {"label": ["1", None], "text": ["x", "y"]})


def test_errors_of_the_hub(hub: list[object]) -> None:
    assert refused("hub:unknown:train", ["text"]) == "hub:unknown:train cannot be had: no such data set"
    assert "write hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT" in refused("hub:imdb", ["text"])
    with pytest.raises(Unavailable, match="hub:far:train cannot be fetched: no route"):
        read_table("hub:far:train", ["text"])


@pytest.mark.parametrize(
    ("package", "source", "extra"), [("datasets", "hub:a/b:train", "hub"), ("pyarrow", "t.parquet", "data")]
)
def test_a_missing_package_names_the_extra(
    put: Put, monkeypatch: pytest.MonkeyPatch, package: str, source: str, extra: str
) -> None:
    monkeypatch.chdir(put("", "t.parquet").parent)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Unavailable) as caught:
        read_table(source, ["text"])
    assert str(caught.value) == (
        f"Reading {source} needs the package '{package}'. Install it with: pip install 'polytask[{extra}]'"
    )


# What is refused


def test_a_missing_file_names_the_near_one(put: Put) -> None:
    path = put("a\n1\n", "sst-train.csv")
    assert refused(path.with_name("sst-tran.csv"), ["a"]) == (
        f"{path.with_name('sst-tran.csv')} does not exist. Did you mean 'sst-train.csv'?"
    )
    assert refused(path.with_name("q.tsv"), ["a"]).endswith(f"In '{path.parent}' there is 'sst-train.csv'.")


def test_a_missing_folder(tmp_path: Path) -> None:
    assert refused(tmp_path / "no" / "t.csv", ["a"]).endswith(
        f"does not exist. There is no folder '{tmp_path}/no' either."
    )
    assert refused(tmp_path / "t.csv", ["a"]).endswith(f"does not exist. There are no tables in '{tmp_path}'.")


def test_a_folder_is_no_table(put: Put) -> None:
    folder = put("a\n1\n").parent
    assert refused(folder, ["a"]).startswith(f"{folder} is a folder, not a table. In '{folder}' there is 'table.csv'.")


def test_a_suffix_that_is_not_read(put: Put) -> None:
    path = put("", "t.docx")
    assert refused(path, ["a"]) == (
        f"{path} is not a kind of table that polytask knows by its name: it reads '.csv', '.tsv', '.tab', '.jsonl', "
        "'.ndjson', '.json', '.parquet', '.xlsx', '.label' and '.txt', or format = \"csv\" (or another) says what it is."
    )


def test_something_else_than_a_table() -> None:
    assert refused(7, ["a"]) == "A table is a path, a list of dicts, a dict of lists or a DataFrame, not a int."
    assert refused([{"a": 1}, "x"], ["a"]) == "<list of dicts>: row 2 is a str, not a dict."


@pytest.mark.parametrize("content", [b"", b"\n\r\n", b"\xef\xbb\xbf"])
def test_an_empty_file(put: Put, content: bytes) -> None:
    path = put(content)
    assert refused(path, ["a"]) == f"{path} is empty: a table is a header line and rows."
    lines = put(content, "t.jsonl")
    assert refused(lines, ["a"]) == f"{lines} is empty."


def test_a_table_that_is_written_to_while_it_is_read(put: Put) -> None:
    path = put("a,b\n" + "1,2\n" * 10)
    rows = rows_of(path, ["a"])
    next(rows)
    with path.open("a") as file:
        file.write("3,4\n")
    with pytest.raises(TableError, match=r"table\.csv changed while it was read: start again when"):
        list(rows)
    assert len(list(rows_of(path, ["a"]))) == 11


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_table_that_is_replaced_between_its_header_and_its_rows(
    put: Put, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "t.parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        path = put(b"", name)
        parquet.write_table(pyarrow.table({"a": [1]}), path)
    else:
        path = put("a,b\n1,2\n" if name == "t.csv" else '{"a": 1}\n', name)
    check = sources._check_columns

    def replace(*arguments: Any) -> None:
        check(*arguments)
        content = path.read_bytes()
        path.with_name("new").write_bytes(content)
        path.with_name("new").replace(path)

    monkeypatch.setattr(sources, "_check_columns", replace)
    assert refused(path, ["a"]).startswith(f"{path} changed while it was read")


def test_a_header_alone(put: Put) -> None:
    path = put("a,b\n")
    assert refused(path, ["a"]) == f"{path} has a header but no rows."
    assert refused([], ["a"]) == "<list of dicts> is empty."


def test_a_missing_column_names_those_there_and_the_near_one(put: Put) -> None:
    path = put("id,text,label\n1,x,2\n")
    assert refused(path, ["text", "lable"]) == (
        f"{path} has no column 'lable'. Did you mean 'label'? It has 'id', 'text' and 'label'."
    )
    assert refused(put('{"a": 1}\n{"b": 1}\n', "t.jsonl"), ["c"]).endswith("has no column 'c'. It has 'a' and 'b'.")
    assert refused([{str(at): 1 for at in range(25)}], ["x"]).endswith("'18' and '19' and 5 more.")


def test_two_columns_of_one_name(put: Put) -> None:
    path = put("a,b,a\n1,2,3\n")
    assert refused(path, ["a"]) == f"{path} has 2 columns called 'a': give them different names."
    assert read_table(path, ["b"]).columns == {"b": ["2"]}


def test_a_wrong_encoding_names_line_and_byte(put: Put) -> None:
    path = put("a,b\nx,1\ncafé,2\n".encode("latin-1"))
    why = "which is not UTF-8 (in Windows-1252 it would be 'é'). Save the table as UTF-8, or say encoding = \"cp1252\"."
    assert refused(path, ["a"]) == f"{path}: line 3, byte 4 is 0xE9, {why}"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_byte_order_mark_tells_the_encoding(put: Put, encoding: str, name: str) -> None:
    text = '{"a": "šö"}\n{"a": "2"}\n' if name == "t.jsonl" else "a,b\nšö,1\n2,3\n"
    assert read_table(put(text.encode(encoding), name), ["a"]).columns["a"] == ["šö", "2"]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16-le", "utf-16-be"])
def test_an_encoding_can_be_given(put: Put, encoding: str) -> None:
    path = put("a,b\ncafé,1\n".encode(encoding))
    assert read_table(path, ["a"], layout=Layout(encoding=encoding)).columns["a"] == ["café"]


def test_bytes_that_are_not_in_the_given_encoding(put: Put) -> None:
    path = put(b"a,b\n\x81\x8d,1\n")
    with pytest.raises(TableError, match=r"after line \d there is no text in cp1252"):
        read_table(path, ["a"], layout=Layout(encoding="cp1252"))


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_nul_byte_names_line_and_byte(put: Put, name: str) -> None:
    path = put('{"a": "b"}\n{"a": "\0"}\n' if name == "t.jsonl" else "a,b\n1,2\nx\0y,3\n", name)
    where = "line 2, byte 8" if name == "t.jsonl" else "line 3, byte 2"
    assert refused(path, ["a"]) == f"{path}: {where} is NUL: not a text file."


def test_a_header_that_cannot_be_read(put: Put) -> None:
    path = put('a,"b\n1,2\n')
    assert refused(path, ["a"]) == (
        f"{path}: the header cannot be read: line 1: the quote opened on line 1 never closes."
    )


def test_json_lines_without_one_object(put: Put) -> None:
    path = put("[1]\n{\n", "t.jsonl")
    assert refused(path, ["a"]) == f"{path} has no row: line 1: a JSON list, where an object is wanted."


def test_a_line_without_end(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfiles, "LONGEST_LINE", 50)
    path = put("a\n" + "x" * 60)
    assert refused(path, ["a"]) == f"{path}: line 2 is longer than 50 bytes."


def test_a_parquet_file_that_is_none(put: Put) -> None:
    pytest.importorskip("pyarrow")
    path = put(b"PAR1 and nothing else", "t.parquet")
    assert refused(path, ["a"]).startswith(f"{path} cannot be read as Parquet: ")


def test_a_file_that_cannot_be_read(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = put("a\n1\n")
    monkeypatch.setattr("builtins.open", refuse)
    assert refused(path, ["a"]) == f"{path} cannot be read: Permission denied."
