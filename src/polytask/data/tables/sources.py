"""Tables from files, from the hub and from memory, as columns of text. Only the columns asked for are kept."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from polytask.errors import TableError, listed, nearest, quoted

from .cells import Cells
from .formats import DataFrame, Dicts, Frame, Hub, Parquet, Row, TableReader
from .problems import RowProblem
from .running import RunningText
from .textfiles import Delimited, JsonLines, TabSeparated

Source: TypeAlias = str | Path | Sequence[Mapping[str, Any]] | DataFrame

_SUFFIXES: dict[str, type[Delimited | JsonLines | Parquet | RunningText]] = {
    ".csv": Delimited,
    ".tsv": TabSeparated,
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".parquet": Parquet,
    ".txt": RunningText,
}


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

    def __len__(self) -> int:
        return len(self.places)


def header(source: Source) -> list[str]:
    """Return the names of a table's columns; the n-th one is "column n" when it has no name. Raises TableError."""
    return _open(source).header()


def read_table(source: Source, columns: Sequence[str], *, optional: Sequence[str] = ()) -> Table:
    """Read ``columns``, and those of ``optional`` that the table has: the others are absent from ``Table.columns``.

    A source is a path (.csv, .tsv, .jsonl, .ndjson, .parquet; .txt is running text), "hub:NAME:SPLIT" or
    "hub:NAME:CONFIG:SPLIT", a list of dicts or a DataFrame. Raises TableError when there is no such table, no such
    column or no row, or when the file is not UTF-8; Unavailable when a package or the network is missing. Broken rows are
    no error here: see ``Audit``.
    """
    table = _open(source)
    names = table.header([*columns, *optional])
    _check_columns(table.name, names, columns)
    wanted = list(dict.fromkeys([*columns, *(column for column in optional if column in names)]))
    cells = {column: Cells() for column in wanted}
    places = array("q")
    broken: list[RowProblem] = []
    for row in table.rows(wanted):
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
    return Table(table.name, cells, places, broken, table.fingerprint(), table.unit)


def rows_of(source: Source, columns: Sequence[str]) -> Iterator[Row | RowProblem]:
    """Yield the rows one by one, for a table that need not fit into memory. Raises what ``read_table`` raises."""
    table = _open(source)
    _check_columns(table.name, table.header(columns), columns)
    empty = True
    for row in table.rows(columns):
        empty = False
        yield row
    if empty:
        raise _no_rows(table.name)


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
    cut = "tabs" if Path(table).suffix.lower() == ".tsv" else "commas, semicolons or tabs"
    return f" Its columns seem to be separated by {quoted(mark)}; a {Path(table).suffix} has {cut}."


def _open(source: Source) -> TableReader:
    if isinstance(source, str) and source.startswith("hub:"):
        return Hub(source)
    if isinstance(source, str | Path):
        return _open_file(source)
    if hasattr(source, "columns"):
        return Frame(source)
    if isinstance(source, Sequence) and not isinstance(source, str):
        return Dicts(source)
    raise TableError(f"A table is a path, a list of dicts or a DataFrame, not a {type(source).__name__}.")


def _open_file(source: str | Path) -> TableReader:
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
    if path.suffix.lower() not in _SUFFIXES:
        raise TableError(f"{source} is not a kind of table that polytask reads: it reads {listed(_SUFFIXES)}.")
    try:
        return _SUFFIXES[path.suffix.lower()](str(source))
    except OSError as error:
        raise TableError(f"{source} cannot be read: {error.strerror or error}.") from error


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder '{path.parent}' either."
    names = sorted(file.name for file in path.parent.iterdir() if file.suffix.lower() in _SUFFIXES)
    if not names:
        return f" There are no tables in '{path.parent}'."
    return nearest(path.name, names) or f" In '{path.parent}' there is {listed(names[:5])}."
