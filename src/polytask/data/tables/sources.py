"""Tables from files, from the hub and from memory, as columns of text. Only the columns asked for are kept."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from polytask.errors import TableError, listed, nearest, quoted

from .beside import Beside
from .cells import Cells
from .documents import JsonDocument, Workbook, columns_of
from .formats import DataFrame, Dicts, Frame, Hub, Parquet, Row, Rows, TableReader
from .labelled import Labelled
from .layout import Layout
from .problems import RowProblem
from .running import RunningText
from .textfiles import Delimited, JsonLines, TabSeparated, Text

Source: TypeAlias = str | Path | Sequence[Mapping[str, Any]] | Mapping[str, Any] | DataFrame

FORMATS: dict[str, Callable[[str, Layout], TableReader]] = {
    "csv": Delimited,
    "tsv": TabSeparated,
    "jsonl": JsonLines,
    "json": JsonDocument,
    "parquet": Parquet,
    "xlsx": Workbook,
    "label": Labelled,
    "text": RunningText,
}
"""The ways in which a file may hold a table, as ``format`` names them."""

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
    ".label": "label",
    ".txt": "text",
}

_PLAIN = Layout()

MOST_BROKEN = 1_000_000
"""A table with more broken rows than this is refused without reading on."""


@dataclass(frozen=True)
class Table:
    """The columns asked for of one table.

    ``name`` is the path as the person wrote it; ``places`` says for each row on which line it starts (the header is on
    line 1), or its 1-based number where ``unit`` is "row". ``broken`` are rows that could not be read: they are in no
    column. ``fingerprint`` is the SHA-256 of the file's bytes, or of the columns that were read where there is no file.
    """

    name: str
    columns: dict[str, Cells]
    places: Sequence[int]
    broken: list[RowProblem]
    fingerprint: str
    unit: str = "line"
    about: str = ""
    """What a person should know of the way in which it was read."""

    def __len__(self) -> int:
        return len(self.places)


def header(source: Source, layout: Layout = _PLAIN) -> list[str]:
    """Return the names of a table's columns; the n-th one is "column n" when it has no name. Raises TableError."""
    return open_table(source, layout).header()


def read_table(
    source: Source, columns: Sequence[str], *, optional: Sequence[str] = (), layout: Layout = _PLAIN
) -> Table:
    """Read ``columns``, and those of ``optional`` that the table has: the others are absent from ``Table.columns``.

    A source is a path (of a file that ``FORMATS`` lists, text files packed with gzip or not), "hub:NAME:SPLIT" or
    "hub:NAME:CONFIG:SPLIT", a list of dicts, a dict of lists, a DataFrame or a ``datasets.Dataset``; or a dict from columns
    to text files that hold a cell a line. ``layout`` says what the file does not.

    Raises TableError when there is no such table, no such column or no row, or when the file is not in its encoding;
    Unavailable when a package or the network is missing. Broken rows are no error here: see ``Audit``.
    """
    table = open_table(source, layout)
    names = table.header([*columns, *optional])
    _check_columns(table.name, names, columns)
    wanted = list(dict.fromkeys([*columns, *(column for column in optional if column in names)]))
    cells = {column: Cells() for column in wanted}
    places = array("q")
    broken: list[RowProblem] = []
    for row in _present(table.rows(wanted), layout):
        if isinstance(row, RowProblem):
            broken.append(row)
            if len(broken) > MOST_BROKEN:
                raise TableError(f"{table.name}: more than {MOST_BROKEN:,} rows are broken; the first: {broken[0]}.")
            continue
        places.append(row[0])
        for column, cell in zip(cells.values(), row[1], strict=True):
            column.append(cell)
    if not places and not broken:
        raise _no_rows(table.name)
    return Table(table.name, cells, places, broken, table.fingerprint(), table.unit, table.about())


def rows_of(source: Source, columns: Sequence[str], layout: Layout = _PLAIN) -> Iterator[Row | RowProblem]:
    """Yield the rows one by one, for a table that need not fit into memory. Raises what ``read_table`` raises."""
    table = open_table(source, layout)
    _check_columns(table.name, table.header(columns), columns)
    empty = True
    for row in _present(table.rows(columns), layout):
        empty = False
        yield row
    if empty:
        raise _no_rows(table.name)


def _present(rows: Iterator[Row | RowProblem], layout: Layout) -> Iterator[Row | RowProblem]:
    """Return the rows, with nothing in the cells that stand for a missing value."""
    if not layout.missing:
        return rows
    missing = frozenset(layout.missing)
    return (
        row if isinstance(row, RowProblem) else (row[0], [None if cell in missing else cell for cell in row[1]])
        for row in rows
    )


def _no_rows(table: str) -> TableError:
    return TableError(f"{table} has a header but no rows.")


def _check_columns(table: str, names: list[str], wanted: Sequence[str]) -> None:
    for column in wanted:
        if column not in names:
            shown = listed(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
            uncut = _uncut(table, names)
            raise TableError(f"{table} has no column {quoted(column)}.{nearest(column, names)} It has {shown}.{uncut}")
        if names.count(column) > 1:
            count = names.count(column)
            raise TableError(f"{table} has {count} columns called {quoted(column)}: give them different names.")


def _uncut(table: str, names: list[str]) -> str:
    """Return what a person should know of a header that a wrong delimiter left in one piece."""
    mark = max(",;\t|", key=names[0].count) if len(names) == 1 else ""
    if not mark or mark not in names[0]:
        return ""
    return f" Its columns seem to be separated by {quoted(mark)}: say delimiter = {quoted(mark)}."


def open_table(source: Source, layout: Layout = _PLAIN) -> TableReader:
    """Return what reads a table. Raises TableError when there is none, or none that can be read."""
    if isinstance(source, str) and source.startswith("hub:"):
        layout.only(source)
        return Hub(source)
    if isinstance(source, str | Path):
        return _open_file(source, layout)
    if isinstance(source, Mapping) and source and all(isinstance(value, str | Path) for value in source.values()):
        return Beside({str(column): str(file) for column, file in source.items()}, layout)
    layout.only(f"A {type(source).__name__}")
    if isinstance(source, Mapping):
        return Frame(_Columns(columns_of("The dict", dict(source))))
    if hasattr(source, "select_columns") and hasattr(source, "column_names"):
        return Rows(source)
    if hasattr(source, "columns"):
        return Frame(source)
    if isinstance(source, Sequence) and not isinstance(source, str):
        return Dicts(source)
    raise TableError(
        f"A table is a path, a list of dicts, a dict of lists or a DataFrame, not a {type(source).__name__}."
    )


class _Columns(dict[str, list[object]]):
    """A dict of lists, seen as a frame."""

    @property
    def columns(self) -> list[str]:
        return list(self)


def _open_file(source: str | Path, layout: Layout) -> TableReader:
    path = Path(source)
    try:
        found = path.exists()
    except OSError as error:
        raise TableError(f"{quoted(str(source))} cannot be the name of a file: {error.strerror or error}.") from error
    if not found:
        gone = f" It is a link to {path.readlink()}, which is not there." if path.is_symlink() else _neighbours(path)
        raise TableError(f"{source} does not exist.{gone}")
    if path.is_dir():
        raise TableError(f"{source} is a folder, not a table.{_neighbours(path / '?')}")
    if not path.is_file():
        raise TableError(f"{source} is not a regular file: a table is read more than once, so a pipe cannot hold it.")
    try:
        return FORMATS[layout.format or _format(path, layout)](str(source), layout)
    except OSError as error:
        raise TableError(f"{source} cannot be read: {error.strerror or error}.") from error


def suffix(path: Path) -> str:
    """Return the suffix that tells the format: of ``a.csv.gz`` it is ``.csv``."""
    name = Path(path.stem) if path.suffix.lower() == ".gz" else path
    return name.suffix.lower()


def _format(path: Path, layout: Layout) -> str:
    """Return the format of a file by its suffix, and by its content where that may stand for more than one."""
    found = _SUFFIXES.get(suffix(path))
    if found is None:
        formats = f'{listed(_SUFFIXES)}, or format = "csv" (or another) says what it is'
        raise TableError(f"{path} is not a kind of table that polytask knows by its name: it reads {formats}.")
    if found == "json":
        return "jsonl" if _json_lines(Text(str(path), layout.encoding).first(200)) else "json"
    if found == "text" and (layout.columns or layout.delimiter or _tabs(Text(str(path), layout.encoding).first(200))):
        return "csv" if layout.delimiter not in (None, "\t") else "tsv"
    return found


def _json_lines(lines: Sequence[str]) -> bool:
    """Whether the first two lines that are not blank are an object each."""
    some = [line for line in lines if line.strip()][:2]
    try:
        return bool(some) and all(isinstance(json.loads(line), dict) for line in some) and len(some) > 1
    except ValueError:
        return False


def _tabs(lines: Sequence[str]) -> bool:
    """Whether these are the lines of a table: with as many tabs in each."""
    counts = {line.count("\t") for line in lines if line.strip()}
    return len(counts) == 1 and counts != {0} and len(lines) > 1


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder '{path.parent}' either."
    names = sorted(file.name for file in path.parent.iterdir() if suffix(file) in _SUFFIXES)
    if not names:
        return f" There are no tables in '{path.parent}'."
    return nearest(path.name, names) or f" In '{path.parent}' there is {listed(names[:5])}."
