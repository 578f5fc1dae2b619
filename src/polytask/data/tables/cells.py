"""Columns of text that need not fit into memory: what is large lies in a nameless file, a row costs eight bytes.

The file is in the folder for temporary files (``TMPDIR`` names another) and is gone when its last reader is, however
that one ended.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from polytask.errors import TableError

Item = TypeVar("Item", str, str | None)

IN_MEMORY = 2**24
"""Bytes of a column beyond which it goes to a file."""

_BUFFER = 2**20


class _Sequence(Sequence[Item]):
    """Slices, order and equality of a column; a column is equal to any sequence of the same cells."""

    __hash__ = None  # type: ignore[assignment]

    @abstractmethod
    def _at(self, row: int) -> Item:
        """Return one cell."""

    @overload
    def __getitem__(self, row: int) -> Item: ...
    @overload
    def __getitem__(self, row: slice) -> list[Item]: ...
    def __getitem__(self, row: int | slice) -> Item | list[Item]:
        if isinstance(row, slice):
            return [self._at(at) for at in range(*row.indices(len(self)))]
        return self._at(range(len(self))[row])

    def __iter__(self) -> Iterator[Item]:
        return map(self._at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self[:10]!r}, {len(self)} rows)"


class Cells(_Sequence[str | None]):
    """Cells in the order in which they were appended; an empty one is None."""

    def __init__(self, cells: Iterable[str | None] = ()) -> None:
        self._file = SpooledTemporaryFile(IN_MEMORY, buffering=_BUFFER)  # noqa: SIM115 - open as long as this lives
        weakref.finalize(self, self._file.close)
        self._ends = array("q", [0])
        self._unwritten = bytearray()
        for cell in cells:
            self.append(cell)

    def append(self, cell: str | None) -> None:
        """Add a cell. Raises TableError when the disk has no room for it."""
        if cell:
            self._unwritten += cell.encode()
        self._ends.append(self._written + len(self._unwritten))
        if len(self._unwritten) >= _BUFFER:
            self._write()

    def text(self, row: int) -> str:
        """Return a cell; an empty one is an empty text."""
        start, end = self._ends[row], self._ends[row + 1]
        if start == end:
            return ""
        if self._unwritten:
            self._write()
        self._file.seek(start)
        return self._file.read(end - start).decode()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def _at(self, row: int) -> str | None:
        return self.text(row) or None

    _written = 0

    def _write(self) -> None:
        try:
            self._file.seek(0, 2)
            self._file.write(self._unwritten)
        except OSError as error:
            raise TableError(
                f"A table cannot be kept in the folder for temporary files: {error.strerror or error}. "
                "TMPDIR names another."
            ) from error
        self._written += len(self._unwritten)
        self._unwritten.clear()


class Texts(_Sequence[str]):
    """Some rows of ``Cells``, in an order of their own; an empty cell is an empty text."""

    def __init__(self, cells: Cells, rows: Sequence[int] | NDArray[np.int64] | None = None) -> None:
        self._cells = cells
        self._rows = np.arange(len(cells)) if rows is None else np.asarray(rows, dtype=np.int64)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Texts:
        """Return some of these rows, in the given order."""
        return Texts(self._cells, self._rows[np.asarray(rows, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self._rows)

    def _at(self, row: int) -> str:
        return self._cells.text(int(self._rows[row]))


def repeats(cells: Sequence[str | None]) -> dict[int, int]:
    """Return each row whose text occurred before, and the row where it did first; empty cells do not count."""
    hashes = np.fromiter(map(hash, cells), dtype=np.int64, count=len(cells))
    values, counts = np.unique(hashes, return_counts=True)
    suspects = np.flatnonzero(np.isin(hashes, values[counts > 1]))
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for row in map(int, suspects):
        cell: Any = cells[row]
        if cell is not None and first.setdefault(cell, row) != row:
            found[row] = first[cell]
    return found
