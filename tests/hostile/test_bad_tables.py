"""Tables as people have them: bad ones are told in a sentence each and leave nothing behind, odd ones work.

Every case goes through the commands themselves: train, a dry run, predict, evaluate and init.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.assembly.parts import build
from polytask.data.tables import sources
from polytask.data.tables.sources import read_table
from polytask.errors import Interrupted, TableError, UserError
from polytask.inference import predictor as predictor_module
from polytask.inference.predictor import Predictor, load
from polytask.jobs.train import train
from polytask.recipe.load import load_recipe
from polytask.run.listen import Watcher

Said = Any
"""Exit code, output and errors of a command, as the fixture `polytask` returns them."""
Polytask = Callable[..., Said]
Rows = list[dict[str, Any]]

ROWS: Rows = [{"id": f"r{n}", "text": f"word{n % 3} good {n}", "label": "yes" if n % 2 else "no"} for n in range(8)]
SKIP = ' (bad_rows = "skip" leaves {} out)'


def csv_of(rows: Iterable[dict[str, Any]], delimiter: str = ",", end: str = "\n") -> str:
    """Return rows as a CSV table."""
    rows = list(rows)
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def jsonl_of(rows: Iterable[dict[str, Any]]) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def parquet_of(rows: Rows) -> bytes:
    """Return rows as a Parquet file."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def parquet_of_none() -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({name: pyarrow.array([], pyarrow.string()) for name in ROWS[0]}), file)
    return file.getvalue()


GOOD = csv_of(ROWS)
LINES = jsonl_of(ROWS)
HEAD = "id,text,label\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """A finished run of a task with the labels yes and no."""
    return train(recipe_of(ROWS), tmp_path_factory.mktemp("run") / "run").folder


@pytest.fixture(scope="module")
def scores_run(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """A finished run of a regression from 0 to 5."""
    rows = [{**row, "label": n % 5} for n, row in enumerate(ROWS)]
    return train(recipe_of(rows, kind=SCORES), tmp_path_factory.mktemp("scores") / "run").folder


SCORES = {"name": "regression", "range": [0.0, 5.0]}


def recipe_of(table: object, *, kind: object = "classification", **task: object) -> dict[str, Any]:
    return {
        "device": "cpu",
        "precision": "float32",
        "encoder": {"layers": 1, "width": 16, "heads": 2, "hidden": 16},
        "tasks": {"t": {"kind": kind, "train": table, "text": "text", "label": "label", **task}},
        "stages": [{"steps": 1, "batch_size": 4}],
    }


def recipe_file(folder: Path, table: str, *, kind: str = '"classification"') -> Path:
    path = folder / "recipe.toml"
    path.write_text(
        'device = "cpu"\nprecision = "float32"\n[encoder]\nlayers = 1\nwidth = 16\nheads = 2\nhidden = 16\n'
        f'[tasks.t]\nkind = {kind}\ntrain = {json.dumps(table)}\ntext = "text"\nlabel = "label"\n'
        "[[stages]]\nsteps = 1\nbatch_size = 4\n",
        encoding="utf-8",
    )
    return path


@dataclass
class Bad:
    """A bad table and what is said of it: ``said`` follows the file's name; ``rows`` are the bad rows, a line each."""

    name: str
    content: str | bytes | Callable[[], bytes] | None
    said: str = ""
    rows: tuple[str, ...] = ()
    file: str = "table.csv"
    fine_for: tuple[str, ...] = ()
    kind: str = '"classification"'
    begins: bool = False
    """Whether more follows what is ``said``, such as another library's words."""


def lone(*rows: str) -> str:
    return GOOD + "".join(rows)


EMPTY = " is empty: a table is a header line and rows."
NO_ROWS = " has a header but no rows."
HAS = "It has 'id', {} and 'label'."
TWO_ROWS = jsonl_of([{"a": 1}, {"a": 2}])

CASES = [
    # -- the file
    Bad("no such file", None, " does not exist. There is no folder '{folder}/none' either.", file="none/table.csv"),
    Bad("a near file", None, " does not exist. Did you mean 'near.csv'?", file="neer.csv"),
    Bad("a folder", None, " is a folder, not a table. In '{folder}' there is 'near.csv'.", file=""),
    Bad(
        "an unknown suffix",
        GOOD,
        " is not a kind of table that polytask knows by its name: it reads '.csv', '.tsv', '.tab', '.jsonl', '.ndjson', "
        "'.json', '.parquet', '.xlsx', '.label' and '.txt', or format = \"csv\" (or another) says what it is.",
        file="table.docx",
    ),
    Bad("an empty file", b"", EMPTY),
    Bad("a byte-order mark alone", b"\xef\xbb\xbf", EMPTY),
    Bad("blank lines alone", b"\n \n\t\n", EMPTY),
    Bad("an empty jsonl", b"", " is empty.", file="table.jsonl"),
    Bad("an empty parquet", b"", " cannot be read as Parquet: ", file="table.parquet", begins=True),
    Bad("a header alone", HEAD, NO_ROWS),
    Bad("a header without a line end", HEAD.strip(), NO_ROWS),
    Bad("a header and blank lines", HEAD + "\n\n", NO_ROWS),
    Bad("a parquet file of no rows", parquet_of_none, NO_ROWS, file="table.parquet"),
    Bad("no Parquet at all", b"PAR1 and so on", " cannot be read as Parquet: ", file="table.parquet", begins=True),
    # -- encodings
    Bad(
        "utf-16 without a mark",
        GOOD.encode("utf-16-le"),
        ": line 1, byte 2 is NUL. It looks like UTF-16 without a byte-order mark; "
        'say encoding = "utf-16-le" or "utf-16-be", or save the table as UTF-8.',
    ),
    Bad(
        "utf-16 without a mark, big end first",
        LINES.encode("utf-16-be"),
        ": line 1, byte 1 is NUL. It looks like UTF-16 without a byte-order mark; "
        'say encoding = "utf-16-le" or "utf-16-be", or save the table as UTF-8.',
        file="table.jsonl",
    ),
    Bad(
        "latin-1",
        lone("x,café,no\n").encode("latin-1"),
        ": line 10, byte 6 is 0xE9, which is not UTF-8 (in Windows-1252 it would be 'é'). "
        'Save the table as UTF-8, or say encoding = "cp1252".',
    ),
    Bad(
        "windows-1252",
        lone("x,“smart” it’s,no\n").encode("cp1252"),
        ": line 10, byte 3 is 0x93, which is not UTF-8 (in Windows-1252 it would be '“'). "
        'Save the table as UTF-8, or say encoding = "cp1252".',
    ),
    Bad(
        "windows-1252 after a byte-order mark",
        b"\xef\xbb\xbf" + GOOD.encode() + "x,naïve,no\n".encode("cp1252"),
        ": line 10, byte 5 is 0xEF, which is not UTF-8 (in Windows-1252 it would be 'ï'). "
        'Save the table as UTF-8, or say encoding = "cp1252".',
    ),
    Bad(
        "latin-1 in jsonl",
        (LINES + '{"id": "x", "text": "café", "label": "no"}\n').encode("latin-1"),
        ": line 9, byte 25 is 0xE9, which is not UTF-8 (in Windows-1252 it would be 'é'). "
        'Save the table as UTF-8, or say encoding = "cp1252".',
        file="table.jsonl",
    ),
    Bad(
        "a byte that means nothing anywhere",
        lone("x,").encode() + b"\x81,no\n",
        ": line 10, byte 3 is 0x81, which is not UTF-8. Save the table as UTF-8.",
    ),
    Bad(
        "cut off in a character",
        lone("x,caf").encode() + b"\xc3",
        ": line 10, byte 6 is 0xC3, which is not UTF-8: the file ends in the middle of a character,"
        " as if it had been cut off.",
    ),
    Bad(
        "a gzip archive",
        gzip.compress(GOOD.encode()),
        ": line 1, byte 2 is 0x8B, which is not UTF-8. It looks like a gzip archive; unpack it, or let its name end in .gz.",
    ),
    Bad(
        "a workbook",
        b"PK\x03\x04\x14\xff" + b"\xff" * 50,
        ": line 1, byte 6 is 0xFF, which is not UTF-8."
        " It looks like a zip archive or a workbook (.xlsx); export the table as CSV in UTF-8.",
    ),
    Bad("a NUL byte", lone("x,a\0b,no\n"), ": line 10, byte 4 is NUL: not a text file."),
    Bad("a NUL byte in jsonl", LINES + "{\0}\n", ": line 9, byte 2 is NUL: not a text file.", file="table.jsonl"),
    Bad(
        "an escaped NUL in jsonl",
        LINES + '{"id": "x", "text": "a\\u0000b", "label": "no"}\n',
        rows=("line 9, column 'text': holds a NUL character, which no text file can hold",),
        file="table.jsonl",
    ),
    Bad(
        "half a surrogate pair",
        LINES + '{"id": "x", "text": "a\\ud800b", "label": "no"}\n',
        rows=("line 9, column 'text': holds half of a surrogate pair, which no UTF-8 text can hold",),
        file="table.jsonl",
    ),
    Bad(
        "old Mac line ends",
        GOOD.replace("\n", "\r"),
        ": line 1 ends in a carriage return alone; save it with line feeds.",
    ),
    # -- columns
    Bad(
        "a column of another name",
        GOOD.replace("text", "txt", 1),
        " has no column 'text'. Did you mean 'txt'? " + HAS.format("'txt'"),
    ),
    Bad(
        "a column in capitals",
        GOOD.replace("text", "Text", 1),
        " has no column 'text'. Did you mean 'Text'? " + HAS.format("'Text'"),
    ),
    Bad(
        "a column with a blank",
        GOOD.replace("text", " text", 1),
        " has no column 'text'. Did you mean ' text'? " + HAS.format("' text'"),
    ),
    Bad(
        "a column with a line end and an escape",
        GOOD.replace("text", '"te\n\x1bxt"', 1),
        " has no column 'text'. Did you mean 'te\\n\\x1bxt'? " + HAS.format("'te\\n\\x1bxt'"),
    ),
    Bad(
        "no label column",
        GOOD.replace("label", "labels", 1),
        " has no column 'label'. Did you mean 'labels'? It has 'id', 'text' and 'labels'.",
        fine_for=("predict",),
    ),
    Bad(
        "two columns of one name",
        GOOD.replace("id,", "text,", 1),
        " has 2 columns called 'text': give them different names.",
    ),
    Bad(
        "commas in a tsv",
        GOOD,
        " has no column 'text'. It has 'id,text,label'. Its columns seem to be separated by ',': say delimiter = ','.",
        file="table.tsv",
    ),
    Bad("no header", GOOD.split("\n", 1)[1], " has no column 'text'. It has 'r0', 'word0 good 0' and 'no'."),
    Bad("jsonl without the key", TWO_ROWS, " has no column 'text'. It has 'a'.", file="table.jsonl"),
    # -- rows
    Bad(
        "ragged rows",
        lone("x,a\n", "x,a,b,c\n"),
        rows=("line 10: 2 fields where the header has 3", "line 11: 4 fields where the header has 3"),
    ),
    Bad(
        "a comma too many in every row",
        HEAD + "a,b,no,\n" * 12,
        rows=(*(f"line {n}: 4 fields where the header has 3" for n in range(2, 12)), "… and 2 more"),
    ),
    Bad("an end-of-file mark of DOS", lone("\x1a"), rows=("line 10: 1 field where the header has 3",)),
    Bad(
        "a quote that never closes",
        GOOD.replace("word1 good 1", '"word1 good 1'),
        rows=("line 3: the quote opened on line 3 never closes",),
    ),
    Bad(
        "a quote that never closes, in the last row",
        lone('x,"open,no\n'),
        rows=("line 10: the quote opened on line 10 never closes",),
    ),
    Bad(
        "a quote that closes rows later",
        GOOD.replace("word1 good 1", '"word1 good 1').replace("word0 good 3", 'word0 "good" 3'),
        rows=("line 3: the quote opened on line 3 is not closed before line 5, where text follows it",),
    ),
    Bad(
        "an unquoted quote",
        lone('x,"open" more,no\n'),
        rows=('line 10: text follows a closing quote (a quote inside a quoted text is written twice: "")',),
    ),
    Bad(
        "a carriage return outside quotes",
        lone("x,a\rb,no\n"),
        rows=("line 10: a carriage return stands outside quotes",),
    ),
    Bad("an empty text", lone("x,,no\n"), rows=("line 10, column 'text': the text is empty",)),
    Bad(
        "texts of blanks alone",
        lone('x,"  \t",no\n', "y,\u00a0\u3000,no\n"),
        rows=("line 10, column 'text': the text is empty", "line 11, column 'text': the text is empty"),
    ),
    Bad(
        "an empty text after a row of two lines",
        lone('x,"a\nb",no\n', "y,,no\n"),
        rows=("line 12, column 'text': the text is empty",),
    ),
    Bad(
        "a label that is missing",
        lone("x,t,\n"),
        rows=("line 10, column 'label': there is no label",),
        fine_for=("predict",),
    ),
    Bad("an id twice", lone("r1,t,no\n"), rows=("line 10, column 'id': the id 'r1' was already used in line 3",)),
    Bad("a missing id", lone(",t,no\n"), rows=("line 10, column 'id': there is no id",)),
    Bad(
        "an id thrice, and more",
        lone("r1,t,no\n", "r1,,no\n", ",t,no\n"),
        rows=(
            "line 10, column 'id': the id 'r1' was already used in line 3",
            "line 11, column 'text': the text is empty",
            "line 11, column 'id': the id 'r1' was already used in line 3",
            "line 12, column 'id': there is no id",
        ),
    ),
    # -- labels
    Bad(
        "a label that training never had",
        lone("x,t,maybe\n"),
        rows=("line 10, column 'label': 'maybe' is not one of the labels 'no' and 'yes'.",),
        fine_for=("train", "predict"),
    ),
    Bad(
        "a label with a line end",
        lone('x,t,"ye\ns"\n'),
        rows=("line 10, column 'label': 'ye\\ns' is not one of the labels 'no' and 'yes'. Did you mean 'yes'?",),
        fine_for=("train", "predict"),
    ),
    Bad(
        "one class only",
        GOOD.replace(",yes", ",no"),
        ": the label column has 1 different label(s), 'no'; at least two are needed.",
        fine_for=("evaluate", "predict"),
    ),
    Bad(
        "one score only",
        GOOD.replace(",yes", ",3").replace(",no", ",3.0"),
        ": every label is '3'; at least two different ones are needed.",
        fine_for=("evaluate", "predict"),
        kind='{ name = "regression", range = [0, 5] }',
    ),
    Bad(
        "scores that are none or outside the range",
        HEAD + "a,t,5.01\nb,t,-1\nc,t,nan\nd,t,1e999\ne,t,five\nf,t,2\ng,t,3\n",
        rows=(
            "line 2, column 'label': 5.01 is outside the range 0 to 5",
            "line 3, column 'label': -1 is outside the range 0 to 5",
            "line 4, column 'label': nan is outside the range 0 to 5",
            "line 5, column 'label': 1e999 is outside the range 0 to 5",
            "line 6, column 'label': 'five' is not a number",
        ),
        fine_for=("predict",),
        kind='{ name = "regression", range = [0, 5] }',
    ),
    # -- other ways to store them
    Bad(
        "jsonl that is csv", GOOD, " has no row: line 1: not JSON: Expecting value at character 1.", file="table.jsonl"
    ),
    Bad(
        "jsonl that is one list",
        json.dumps(ROWS),
        " has no row: line 1: a JSON list, where an object is wanted.",
        file="table.jsonl",
    ),
    Bad(
        "broken lines of jsonl",
        LINES + '{"id": "x", "text": \n' + "[1]\n" + '{"id": 7, "text": "t", "text": "u", "label": "no"}\n',
        rows=(
            "line 9: not JSON: Expecting value at character 21",
            "line 10: a JSON list, where an object is wanted",
            "line 11, column 'text': the key stands twice in this object",
        ),
        file="table.jsonl",
    ),
    Bad(
        "jsonl that no one can read",
        LINES + '{"id": ' + "9" * 5000 + "}\n" + "[" * 100_000 + "\n",
        rows=(
            "line 9: not JSON that can be read: a number in it has more than 4,300 digits",
            "line 10: not JSON that can be read: it is nested too deeply",
        ),
        file="table.jsonl",
    ),
    Bad(
        "a key that a line of jsonl lacks",
        LINES + '{"id": "x", "label": "no"}\n{"text": "t", "label": "no"}\n',
        rows=("line 9, column 'text': the text is empty", "line 10, column 'id': there is no id"),
        file="table.jsonl",
    ),
    Bad(
        "a list in a cell",
        LINES + '{"id": "x", "text": ["t"], "label": "no"}\n',
        rows=("line 9, column 'text': holds a list, where text or a number is wanted",),
        file="table.jsonl",
    ),
    Bad(
        "bad rows of a parquet file",
        lambda: parquet_of([*ROWS, {"id": "r1", "text": "t", "label": "no"}, {"id": "y", "text": None, "label": "no"}]),
        rows=("row 9, column 'id': the id 'r1' was already used in row 2", "row 10, column 'text': the text is empty"),
        file="table.parquet",
    ),
]


def wanted_of(case: Bad, path: Path, folder: Path, command: str) -> str:
    if not case.rows:
        return f"error: {path}{case.said.format(folder=folder) if '{folder}' in case.said else case.said}"
    count = len({row.split(":")[0].split(",")[0] for row in case.rows if not row.startswith("…")})
    if case.rows[-1].startswith("… and "):
        count += int(case.rows[-1].split()[2])
    bad = "1 row is broken or has" if count == 1 else f"{count} rows are broken or have"
    skip = SKIP.format("it" if count == 1 else "them") if command in ("train", "dry run") else ""
    return f"error: {path}: {bad} no usable value{skip}:\n" + "\n".join(f"  {row}" for row in case.rows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_table_is_told_in_a_sentence_and_leaves_nothing(
    case: Bad, polytask: Polytask, run: Path, scores_run: Path, tmp_path: Path, own_cache: Path
) -> None:
    (tmp_path / "near.csv").write_text(GOOD, encoding="utf-8")
    path = tmp_path / case.file
    if case.content is not None:
        content = case.content() if callable(case.content) else case.content
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    recipe, of = recipe_file(tmp_path, str(path), kind=case.kind), scores_run if "range" in case.kind else run
    commands = {
        "dry run": ("train", recipe, "--out", tmp_path / "new", "--dry-run"),
        "train": ("train", recipe, "--out", tmp_path / "new"),
        "predict": ("predict", of, path, "--task", "t", "--output", tmp_path / "out.csv"),
        "evaluate": ("evaluate", of, "--task", "t", "--data", path),
    }
    before = contents(tmp_path, own_cache, of)
    for command, arguments in commands.items():
        if command in case.fine_for or (command == "dry run" and "train" in case.fine_for):
            continue
        said = polytask(*arguments)
        wanted = wanted_of(case, path, tmp_path, command)
        assert (said.code, said.out) == (2, ""), said
        assert said.err.startswith(wanted) if case.begins else said.err == wanted + "\n"
        assert contents(tmp_path, own_cache, of) == before, command
    for command in case.fine_for:
        assert polytask(*commands[command]).code == 0, command


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_first_recipe_for_a_bad_table_is_written_whole_or_not_at_all(
    case: Bad, polytask: Polytask, tmp_path: Path, own_cache: Path
) -> None:
    path = tmp_path / case.file
    if case.content is not None:
        content = case.content() if callable(case.content) else case.content
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    before = contents(tmp_path, own_cache)
    said = polytask("init", path, "--out", tmp_path / "first.toml")
    if said.code == 2:
        assert said.out == ""
        assert said.err.startswith("error: ")
        assert str(path) in said.err
        assert said.err.count("\n") == 1
        assert contents(tmp_path, own_cache) == before
    else:
        assert said.code == 0, said
        if case.rows and not case.fine_for and "id" not in case.rows[0] and "text" not in case.rows[0]:
            assert 'bad_rows = "skip"' in (tmp_path / "first.toml").read_text(encoding="utf-8")


def contents(*folders: Path) -> dict[Path, bytes]:
    """Return every file in some folders, with what it holds."""
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()} | {
        path: b"" for folder in folders for path in folder.rglob("*") if path.is_dir()
    }


def test_values_that_no_table_can_hold_are_told_by_row(tmp_path: Path, own_cache: Path) -> None:
    bad = [{"id": "a", "text": "x\0y", "label": "no"}, {"id": "b", "text": ["t"], "label": "no"}]
    with pytest.raises(TableError) as caught:
        train(recipe_of([*ROWS, *bad]), tmp_path / "run")
    assert str(caught.value).split("\n")[1:] == [
        "  row 9, column 'text': holds a NUL character, which no text file can hold",
        "  row 10, column 'text': holds a list, where text or a number is wanted",
    ]
    assert not (tmp_path / "run").exists()


def test_only_one_of_several_named_labels_is_too_few(tmp_path: Path, own_cache: Path) -> None:
    rows = [{**row, "label": "no"} for row in ROWS]
    with pytest.raises(TableError, match=r"every label is 'no' \(of 'no' and 'yes'\); at least two"):
        train(recipe_of(rows, labels=["no", "yes"]), tmp_path / "run")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(TableError, match="is not a regular file"):
        read_table(tmp_path / "pipe.csv", ["text"])
    (tmp_path / "link.csv").symlink_to("nowhere.csv")
    with pytest.raises(TableError, match=r"does not exist. It is a link to nowhere.csv"):
        read_table(tmp_path / "link.csv", ["text"])
    with pytest.raises(TableError, match="cannot be the name of a file: File name too long"):
        read_table("x" * 300 + ".csv", ["text"])


def test_a_table_of_broken_rows_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_BROKEN", 20)
    (tmp_path / "t.csv").write_text(HEAD + "a\n" * 30, encoding="utf-8")
    with pytest.raises(TableError, match="more than 20 rows are broken; the first: line 2: 1 field"):
        read_table(tmp_path / "t.csv", ["text"])


# -- odd, and fine -----------------------------------------------------------------------------------------------------

LONG = "long " * 40_000
ODD = {
    "rtl": "שלום עולם \u200fمرحبا",
    "emoji": "👩‍👩‍👧 🎉 :smile:",
    "control": "bell\x07 esc\x1b[0m vt\x0b ff\x0c nel\x85 ls\u2028 ps\u2029 del\x7f",
    "quoted": 'say "hi", she said;\tand left',
    "lines": "one\ntwo\r\nthree\rfour",
    "long": LONG,
    "word": "x" * 200_000,
    "caf\u00e9": "composed",
    "cafe\u0301": "decomposed",
    " blank ": "  around  ",
    "007": "12.50",
    "-": "[SEP] [CLS] [PAD]",
    "=1+1": "=cmd|' /C calc'!A0",
    "\ufeffmark": "\ufeff mark within",
    "💥,\n": "an id of two lines",
    "null": "NaN",
}
ODD_ROWS: Rows = [*ROWS, *({"id": key, "text": text, "label": "no"} for key, text in ODD.items())]
MARK = b"\xef\xbb\xbf"
LEGAL: dict[str, tuple[str, Callable[[], bytes]]] = {
    "csv": ("t.csv", lambda: csv_of(ODD_ROWS).encode()),
    "csv with a mark": ("t.csv", lambda: MARK + csv_of(ODD_ROWS).encode()),
    "csv with a mark and a quoted header": (
        "t.csv",
        lambda: MARK + csv_of(ODD_ROWS).replace("id,", '"id",', 1).encode(),
    ),
    "csv of Windows": ("t.csv", lambda: csv_of(ODD_ROWS, end="\r\n").encode()),
    "csv without a last line end": ("t.csv", lambda: csv_of(ODD_ROWS).rstrip("\n").encode()),
    "semicolons": ("t.csv", lambda: csv_of(ODD_ROWS, ";").encode()),
    "tsv": ("t.tsv", lambda: csv_of(ODD_ROWS, "\t").encode()),
    "jsonl": ("t.jsonl", lambda: jsonl_of(ODD_ROWS).encode()),
    "jsonl with a mark": ("t.ndjson", lambda: MARK + jsonl_of(ODD_ROWS).replace("\n", "\r\n").encode()),
    "parquet": ("t.parquet", lambda: parquet_of(ODD_ROWS)),
}


@pytest.mark.parametrize("name", LEGAL)
def test_an_odd_table_trains_and_is_predicted_with_ids_and_order_kept(
    name: str, polytask: Polytask, tmp_path: Path
) -> None:
    file, content = LEGAL[name]
    path = tmp_path / file
    path.write_bytes(content())
    table = read_table(path, ["id", "text"])
    assert table.broken == []
    assert table.columns["text"] == [row["text"] for row in ODD_ROWS]
    said = polytask("train", recipe_file(tmp_path, str(path)), "--out", tmp_path / "run")
    assert said.code == 0, said.err
    assert polytask("evaluate", tmp_path / "run", "--task", "t", "--data", path).code == 0
    for format, read in (("csv", read_csv), ("jsonl", read_jsonl)):
        out = tmp_path / f"out.{format}"
        said = polytask("predict", tmp_path / "run", path, "--task", "t", "--output", out, "--format", format)
        assert said == (0, f"Wrote {len(ODD_ROWS)} predictions to {out}.\n", "")
        assert [row["id"] for row in read(out)] == [row["id"] for row in ODD_ROWS]


def read_csv(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_jsonl(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def test_a_format_that_has_no_way_to_write_an_id_says_so(polytask: Polytask, run: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(csv_of([*ROWS, {"id": "a,b", "text": "t", "label": "no"}]), encoding="utf-8")
    out = ("--output", tmp_path / "out.csv", "--format", "cs224n")
    said = polytask("predict", run, tmp_path / "t.csv", "--task", "t", *out)
    assert said.code == 2
    assert said.err.startswith("error: The id 'a,b' holds a comma or a line end, which 'cs224n' has no way to write")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_predictions_do_not_take_the_place_of_their_table(polytask: Polytask, run: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(GOOD, encoding="utf-8")
    (tmp_path / "link.csv").symlink_to(table)
    for output in (table, tmp_path / "link.csv"):
        said = polytask("predict", run, table, "--task", "t", "--output", output)
        assert (said.code, said.err) == (
            2,
            f"error: {output} is the table itself; its predictions would take its place; name another file for them.\n",
        )
    assert table.read_text(encoding="utf-8") == GOOD
    said = polytask("predict", run, table, "--task", "t", "--output", tmp_path)
    assert (said.code, said.err) == (2, f"error: {tmp_path} is a folder; the name of a file is wanted.\n")


anything = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        '"',
        '""',
        "\n",
        "\r\n",
        "\r",
        "a\nb",
        "\t",
        ",",
        ";",
        "#",
        "\\",
        "\\n",
        "'",
        "שלום",
        "👩‍👩‍👧",
        "\x1b[0m",
        "\ufeff",
        "\u2028",
    ]
)
filled = anything.filter(str.strip)


@settings(max_examples=15)
@given(
    rows=st.lists(
        st.tuples(anything.filter(bool), filled, anything), min_size=1, max_size=6, unique_by=lambda row: row[0]
    ),
    names=st.lists(filled.filter(lambda name: name != "id"), min_size=2, max_size=2, unique=True),
)
@pytest.mark.parametrize("way", ["csv", "tsv", "jsonl"])
def test_any_table_keeps_its_ids_and_their_order_through_predict(
    run: Path, tmp_path_factory: pytest.TempPathFactory, way: str, rows: list[tuple[str, str, str]], names: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    predictor = load_once(run)
    table, out = folder / f"any.{way}", folder / "any.out"
    given = [dict(zip(["id", *names], row, strict=True)) for row in rows]
    text = jsonl_of(given) if way == "jsonl" else csv_of(given, "\t" if way == "tsv" else ",", "\r\n")
    table.write_bytes(text.encode())
    wanted = predictor.predict("t", [row[1] for row in rows])
    for format, read in (("csv", read_csv), ("jsonl", read_jsonl)):
        assert predictor.predict_table("t", table, out, format, [names[0]]) == len(rows)
        assert [(row["id"], row["prediction"]) for row in read(out)] == [
            (row[0], label) for row, label in zip(rows, wanted, strict=True)
        ]


_LOADED: dict[Path, Predictor] = {}


def load_once(run: Path) -> Predictor:
    return _LOADED.setdefault(run, load(run))


# -- long tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["csv", "jsonl", "cs224n"])
def test_a_long_table_is_predicted_in_pieces_as_it_would_be_whole(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Any
) -> None:
    rows = [{"id": f"k{n}", "text": f"word{n % 3} good {n % 7}"} for n in range(50)]
    (tmp_path / "t.csv").write_text(csv_of(rows), encoding="utf-8")
    predictor = load_once(run)
    predictor.predict_table("t", tmp_path / "t.csv", tmp_path / "whole", format)
    monkeypatch.setattr(predictor_module, "CHUNK", 7)
    assert predictor.predict_table("t", tmp_path / "t.csv", tmp_path / "pieces", format) == 50
    whole, pieces = ((tmp_path / name).read_text(encoding="utf-8") for name in ("whole", "pieces"))
    if format == "cs224n":
        assert pieces == whole
    else:
        read = read_csv if format == "csv" else read_jsonl
        for one, other in zip(read(tmp_path / "whole"), read(tmp_path / "pieces"), strict=True):
            assert (one["id"], one["prediction"]) == (other["id"], other["prediction"])
            ours, theirs = ([float(p) for p in probabilities(row)] for row in (one, other))
            assert ours == pytest.approx(theirs, abs=2e-6)


def probabilities(row: dict[str, Any]) -> list[Any]:
    return list(row["probabilities"].values()) if "probabilities" in row else [row["p(no)"], row["p(yes)"]]


def test_a_failure_in_a_later_piece_leaves_the_file_as_it_was(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text(csv_of([*ROWS, {"id": "a,b", "text": "t", "label": "no"}]), encoding="utf-8")
    (tmp_path / "out").write_text("before", encoding="utf-8")
    monkeypatch.setattr(predictor_module, "CHUNK", 2)
    with pytest.raises(UserError, match="'a,b'"):
        load_once(run).predict_table("t", tmp_path / "t.csv", tmp_path / "out", "cs224n")
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir() if path.name != "t.csv"} == {
        "out": "before"
    }


# -- tables that change ------------------------------------------------------------------------------------------------


class StopAtOnce(Watcher):
    def stage(self, number: int, stages: int, start: int, steps: int) -> None:
        raise Interrupted("before the first step")


@pytest.fixture
def left(tmp_path: Path, own_cache: Path) -> tuple[Path, Path]:
    """A run that was left before its first step, and its table."""
    table = tmp_path / "t.csv"
    table.write_text(csv_of({**row, "id": f"k{n}"} for n, row in enumerate(ROWS * 4)), encoding="utf-8")
    with pytest.raises(Interrupted):
        train(
            recipe_file(tmp_path, str(table)),
            tmp_path / "run",
            overrides=["tasks.t.dev=0.25"],
            listeners=[StopAtOnce()],
        )
    return tmp_path / "run", table


def test_a_run_does_not_go_on_with_a_table_that_changed(left: tuple[Path, Path], polytask: Polytask) -> None:
    run, table = left
    good = table.read_text(encoding="utf-8")
    was = f"has changed since {run} was started."
    told = "".join(f"{table} (the {split} table of task 't') {was}\n" for split in ("train", "dev"))
    before = contents(run)
    for content in (good.replace("word2", "word9", 1), good + "x,one more,no\n", good.replace(",", ";")):
        table.write_text(content, encoding="utf-8")
        said = polytask("resume", run)
        assert (said.code, said.out) == (2, "")
        assert said.err.endswith(f"error: {told}")  # after a note on the semicolons
        assert contents(run) == before
    table.write_text(lone("x,,no\n"), encoding="utf-8")
    assert "line 10, column 'text': the text is empty" in polytask("resume", run).err
    table.unlink()
    assert polytask("resume", run).err.startswith(f"error: {table} does not exist.")
    table.write_text(good, encoding="utf-8")
    assert polytask("resume", run).code == 0
    assert polytask("evaluate", run).code == 0
    table.write_text(good.replace("word2", "word9", 1), encoding="utf-8")
    assert polytask("evaluate", run) == (2, "", f"error: {told}")  # another quarter of it would be dev
    assert polytask("evaluate", run, "--task", "t", "--data", table).code == 0


def test_a_table_that_changed_after_it_was_tokenised_is_tokenised_anew(tmp_path: Path, own_cache: Path) -> None:
    table = tmp_path / "t.csv"
    lengths = []
    for words in ("one", "one two three"):
        table.write_text(csv_of({**row, "text": words} for row in ROWS), encoding="utf-8")
        parts = build(load_recipe(recipe_of(str(table))))
        lengths.append(int(parts.train_rows["t"].lengths[0]))
    assert lengths == [3, 5]
