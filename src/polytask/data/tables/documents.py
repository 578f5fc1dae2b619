"""Tables that are one document: JSON that holds all rows, and workbooks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from polytask.errors import TableError, need_extra

from .formats import Values, file_state, unchanged
from .layout import Layout

_PLAIN = Layout()


class Document(Values):
    """A file that has to be read as a whole."""

    takes: tuple[str, ...] = ()

    def __init__(self, name: str, layout: Layout = _PLAIN) -> None:
        super().__init__(name)
        self.layout = layout
        self._state = file_state(name)
        layout.only(name, *self.takes)

    def fingerprint(self) -> str:
        with open(self.name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        unchanged(self.name, self._state)
        return digest


class JsonDocument(Document):
    """A .json file of one document: a list of objects, columns of one length, or either of them under its only key."""

    takes = ("encoding",)

    def __init__(self, name: str, layout: Layout = _PLAIN) -> None:
        super().__init__(name, layout)
        self._columns = self._read()

    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        return list(self._columns)

    def values(self, columns: Sequence[str]) -> Iterator[Sequence[object]]:
        return zip(*(self._columns[column] for column in columns), strict=True)

    def _read(self) -> dict[str, list[object]]:
        try:
            with open(self.name, encoding=self.layout.encoding or "utf-8-sig") as file:
                value = json.load(file)
        except (ValueError, RecursionError) as error:
            raise TableError(f"{self.name} cannot be read as JSON: {error}.") from error
        return columns_of(self.name, value)


def columns_of(name: str, value: Any) -> dict[str, list[object]]:
    """Return the columns of a table that Python values hold: objects in a list, or lists in an object."""
    if isinstance(value, Mapping):
        lists = {str(key): list(column) for key, column in value.items() if isinstance(column, list | tuple)}
        objects = [key for key, column in lists.items() if column and all(isinstance(row, Mapping) for row in column)]
        if len(objects) == 1:
            return columns_of(name, lists[objects[0]])
        if not lists or len(lists) < len(value):
            raise TableError(
                f"{name} holds an object, and no list of rows can be told in it; wanted a list of objects."
            )
        lengths = {key: len(column) for key, column in lists.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"'{key}' {length}" for key, length in lengths.items())
            raise TableError(f"{name}: its columns have different numbers of rows: {said}.")
        return lists
    if not isinstance(value, list) or not value:
        raise TableError(f"{name} holds no rows; wanted a list of objects.")
    for number, row in enumerate(value, 1):
        if not isinstance(row, Mapping):
            raise TableError(f"{name}: row {number} is a {type(row).__name__}, not an object.")
    names = dict.fromkeys(str(key) for row in value for key in row)
    return {key: [row.get(key) for row in value] for key in names}


class Workbook(Document):
    """The first sheet of a workbook (.xlsx); whole numbers are read as such, however the program keeps them."""

    takes = ("header", "columns")

    def __init__(self, name: str, layout: Layout = _PLAIN) -> None:
        super().__init__(name, layout)
        self._rows = self._read()
        columns = layout.columns
        if columns is not None and len(columns) != len(self._rows[0]):
            raise TableError(
                f"{name}: {len(columns)} columns are named, and its first row has {len(self._rows[0])} cells."
            )
        first = [str(cell) if cell is not None else f"column {at}" for at, cell in enumerate(self._rows[0], 1)]
        self._names = first if columns is None else list(columns)
        if columns is None or layout.header or set(columns) == set(first):
            self._rows = self._rows[1:]

    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        return self._names

    def values(self, columns: Sequence[str]) -> Iterator[Sequence[object]]:
        places = [self._names.index(column) for column in columns]
        return ([row[place] for place in places] for row in self._rows)

    def _read(self) -> list[tuple[object, ...]]:
        try:
            import openpyxl
        except ImportError as error:
            raise need_extra("openpyxl", "data", f"Reading {self.name}") from error
        try:
            book = openpyxl.load_workbook(self.name, read_only=True, data_only=True)
        except Exception as error:  # zipfile's, openpyxl's own and KeyErrors, whatever is wrong within
            raise TableError(f"{self.name} cannot be read as a workbook: {error}.") from error
        try:
            rows = [tuple(map(_cell, row)) for row in book.worksheets[0].iter_rows(values_only=True)]
        finally:
            book.close()
        rows = [row for row in rows if any(cell is not None for cell in row)]
        if not rows:
            raise TableError(f"{self.name} is empty: its first sheet has no rows.")
        width = max(map(len, rows))
        return [row + (None,) * (width - len(row)) for row in rows]


def _cell(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.isoformat() if isinstance(value, date) else value
