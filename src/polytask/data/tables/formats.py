"""What every way of storing a table does, and the ways that hold Python values: dicts, frames, Parquet, the hub.

A cell becomes text by one rule: text stays as it is, 3 is "3", 1.0 is "1.0" (Python's ``repr``), True is "true";
an empty text, a null and a NaN are None.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Protocol, TypeAlias

from polytask.errors import TableError, Unavailable, need_extra

from .layout import Layout
from .problems import RowProblem

_PLAIN = Layout()

Row: TypeAlias = tuple[int, list[str | None]]
"""The place of a row and the cells asked for."""


class DataFrame(Protocol):
    """What is asked of a pandas or polars frame."""

    @property
    def columns(self) -> Any: ...
    def __getitem__(self, column: Any, /) -> Any: ...
    def __len__(self) -> int: ...


class TableReader(ABC):
    """One way of storing a table."""

    unit = "line"

    def __init__(self, name: str) -> None:
        self.name = name
        self._digest = hashlib.sha256()

    @abstractmethod
    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        """Return the names of the columns; it may stop looking when it has found all ``wanted``."""

    @abstractmethod
    def rows(self, columns: Sequence[str]) -> Iterator[Row | RowProblem]:
        """Yield the rows in order."""

    def about(self) -> str:
        """Return what a person should know of the way in which this table is read; nothing where it is the usual one."""
        return ""

    def fingerprint(self) -> str:
        """Return the hash of what ``rows`` went through."""
        return self._digest.hexdigest()

    def _row(self, place: int, columns: Sequence[str], values: Iterable[object]) -> Row | RowProblem:
        cells: list[str | None] = []
        for column, value in zip(columns, values, strict=True):
            try:
                cells.append(_as_text(value))
            except (TypeError, ValueError) as error:
                return RowProblem(place, column, str(error), self.unit)
        return place, cells


def _as_text(value: Any) -> str | None:
    if getattr(value, "ndim", None) == 0:  # a scalar of numpy
        value = value.item()
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:  # of pandas, which is not imported for it
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return None if math.isnan(value) else repr(value)
    if isinstance(value, int | Decimal):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(f"holds a {type(value).__name__}, where text or a number is wanted")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("holds half of a surrogate pair, which no UTF-8 text can hold")
    if "\0" in value:
        raise ValueError("holds a NUL character, which no text file can hold")
    return value or None


State: TypeAlias = tuple[int, int, int, int]


def file_state(file: str | int) -> State:
    """Return what changes when a file, or what an open one stands for, is replaced or written to."""
    found = os.stat(file)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def unchanged(name: str, before: State, file: int | None = None) -> None:
    """Raise TableError when a file is no longer as it was; ``file`` is its descriptor where it is open."""
    if file_state(name if file is None else file) != before:
        raise TableError(f"{name} changed while it was read: start again when nothing writes to it any more.")


class Values(TableReader):
    """Rows that hold Python values and have no lines."""

    unit = "row"

    @abstractmethod
    def values(self, columns: Sequence[str]) -> Iterator[Sequence[object]]:
        """Yield the rows' values in the order of ``columns``."""

    def rows(self, columns: Sequence[str]) -> Iterator[Row | RowProblem]:
        self._digest = hashlib.sha256(json.dumps(list(columns)).encode())
        for place, values in enumerate(self.values(columns), 1):
            row = self._row(place, columns, values)
            if not isinstance(row, RowProblem):
                self._digest.update(json.dumps(row).encode())
            yield row


class Dicts(Values):
    def __init__(self, dicts: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("<list of dicts>")
        self._dicts = dicts
        for number, item in enumerate(dicts, 1):
            if not isinstance(item, Mapping):
                raise TableError(f"{self.name}: row {number} is a {type(item).__name__}, not a dict.")

    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        if not self._dicts:
            raise TableError(f"{self.name} is empty.")
        return list(dict.fromkeys(key for item in self._dicts for key in item))

    def values(self, columns: Sequence[str]) -> Iterator[Sequence[object]]:
        return ([item.get(column) for column in columns] for item in self._dicts)


class Frame(Values):
    def __init__(self, frame: DataFrame) -> None:
        super().__init__(f"<{type(frame).__name__}>")
        self._frame = frame

    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        return [str(column) for column in self._frame.columns]

    def values(self, columns: Sequence[str]) -> Iterator[Sequence[object]]:
        named = {str(column): column for column in self._frame.columns}
        return zip(*(self._frame[named[column]] for column in columns), strict=True)


class Parquet(Values):
    def __init__(self, name: str, layout: Layout = _PLAIN) -> None:
        super().__init__(name)
        layout.only(name)
        self._state = file_state(name)

    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        with self._parquet() as file:
            return list(file.schema_arrow.names)

    def values(self, columns: Sequence[str]) -> Iterator[Sequence[object]]:
        with self._parquet() as file:
            for batch in file.iter_batches(batch_size=1024, columns=list(columns)):
                yield from zip(*(batch.column(column).to_pylist() for column in columns), strict=True)

    def fingerprint(self) -> str:
        with open(self.name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        unchanged(self.name, self._state)
        return digest

    @contextmanager
    def _parquet(self) -> Iterator[Any]:
        try:
            from pyarrow import ArrowException, parquet
        except ImportError as error:
            raise need_extra("pyarrow", "data", f"Reading {self.name}") from error
        try:
            with parquet.ParquetFile(self.name) as file:
                yield file
        except (ArrowException, OSError) as error:
            why = " ".join(str(error).split()).rstrip(".")
            raise TableError(f"{self.name} cannot be read as Parquet: {why}.") from error


class Rows(Values):
    """A ``datasets.Dataset``."""

    def __init__(self, dataset: Any, name: str = "<Dataset>") -> None:
        super().__init__(name)
        self._set = dataset

    def header(self, wanted: Sequence[str] | None = None) -> list[str]:
        return list(self._set.column_names)

    def values(self, columns: Sequence[str]) -> Iterator[Sequence[object]]:
        for batch in self._set.select_columns(list(columns)).iter(batch_size=1024):
            yield from zip(*(batch[column] for column in columns), strict=True)


class Hub(Rows):
    def __init__(self, address: str) -> None:
        parts = re.fullmatch(r"hub:([^:\s]+)(?::([^:\[\]]+))?:([^:\[\]]+(?:\[[^\]]*\])?)", address)
        if parts is None:
            raise TableError(f"{address} is not a table of the hub: write hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT.")
        self.name = address
        super().__init__(self._load(*parts.groups()), address)

    def _load(self, name: str, config: str | None, split: str) -> Any:
        try:
            from datasets import load_dataset
        except ImportError as error:
            raise need_extra("datasets", "hub", f"Reading {self.name}") from error
        try:
            return load_dataset(name, config, split=split)
        except (FileNotFoundError, ValueError) as error:
            raise TableError(f"{self.name} cannot be had: {error}") from error
        except OSError as error:
            raise Unavailable(f"{self.name} cannot be fetched: {error}") from error
