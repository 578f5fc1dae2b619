"""A task's table, read and audited: texts, ids and encoded labels, and what was left out."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.errors import quoted
from polytask.runtime.keys import numpy_generator

from .cells import Cells, Texts, repeats
from .layout import Layout
from .problems import Policy, RowProblems
from .sources import Source, Table, read_table

_PLAIN = Layout()


@dataclass(frozen=True)
class Examples:
    """The usable rows of a table: a sequence of texts for each text column, labels as the table spells them."""

    name: str
    texts: Sequence[Sequence[str]]
    labels: Sequence[str]
    ids: Sequence[str]
    places: Sequence[int]
    unit: str
    skipped: int
    fingerprint: str
    about: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Examples:
        """Return some of the rows, in the given order."""
        return Examples(
            self.name,
            [_take(column, rows) for column in self.texts],
            _take(self.labels, rows) if self.labels else [],
            _take(self.ids, rows),
            array("q", [self.places[row] for row in rows]),
            self.unit,
            self.skipped,
            self.fingerprint,
            self.about,
        )


def read_examples(
    source: Source,
    text: Sequence[str],
    label: str | Sequence[str] | None,
    id: str | None,
    bad_rows: Policy,
    check: Callable[[str], Any] = lambda label: None,
    layout: Layout = _PLAIN,
) -> Examples:
    """Read a table of a task; without ``label``, only its texts. Several labels are columns of 0 and 1, one for each.

    A row that is broken, has an empty text or no label, or a label that ``check`` raises ValueError for, is a problem;
    so is an id that occurs twice. Raises TableError with all of them, or skips and counts them.
    """
    optional = [] if id is not None else ["id"]
    several = [] if label is None or isinstance(label, str) else list(label)
    one = label if isinstance(label, str) else None
    columns = list(dict.fromkeys([*text, *([one] if one else several), *([id] if id else [])]))
    table = read_table(source, columns, optional=optional, layout=layout)
    audit = RowProblems(table.name, table.unit)
    audit.add_all(table.broken)
    if several:
        one = _together(table, several, audit)
    elif one is not None and layout.decimal != ".":
        table.columns[one] = Cells(_point(cell, layout.decimal) for cell in table.columns[one])
    _audit_cells(table, audit, text, one, check)
    id_column = id or ("id" if "id" in table.columns else None)
    if id_column:
        _audit_ids(table, audit, id_column)
    skipped = audit.stop_or_count(bad_rows)
    data = _labelled(table, text, one, id_column, skipped)
    if not skipped:
        return data
    bad = audit.places
    return data.take(array("q", (row for row, place in enumerate(table.places) if place not in bad)))


def _together(table: Table, columns: Sequence[str], audit: RowProblems) -> str:
    """Make one column of several that say 0 or 1 of a label each: the labels that are on, as a JSON list."""
    joined = Cells()
    for place, row in zip(table.places, zip(*(table.columns[column] for column in columns), strict=True), strict=True):
        on: list[str] = []
        for column, cell in zip(columns, row, strict=True):
            said = _SAID.get((cell or "").strip().lower())
            if said is None:
                what = "there is no label" if cell is None else f"{quoted(cell)} is neither 0 nor 1"
                audit.add(place, column, what)
            elif said:
                on.append(column)
        joined.append(json.dumps(on, ensure_ascii=False))
    name = _ALL_OF + " ".join(columns)
    table.columns[name] = joined
    return name


_SAID = dict.fromkeys(("1", "1.0", "true", "yes"), True) | dict.fromkeys(("0", "0.0", "false", "no"), False)

_ALL_OF = "\0"
"""Begins the name of a column that no table has."""


def _point(cell: str | None, decimal: str) -> str | None:
    """Return a number with a point before its decimals."""
    return None if cell is None else cell.replace(".", "").replace(decimal, ".")


def draw_rows(total: int, wanted: int | None, *key: int | str) -> list[int]:
    """Return ``wanted`` of ``total`` rows, drawn once and kept in their order; all when ``wanted`` is None."""
    if wanted is None or wanted >= total:
        return list(range(total))
    return sorted(int(row) for row in numpy_generator(*key, "rows").permutation(total)[:wanted])


def _audit_cells(
    table: Table, audit: RowProblems, text: Sequence[str], label: str | None, check: Callable[[str], Any]
) -> None:
    for column in text:
        for place, cell in zip(table.places, table.columns[column], strict=True):
            if cell is None or not cell.strip():
                audit.add(place, column, "the text is empty")
    if label is None:
        return
    for place, cell in zip(table.places, table.columns[label], strict=True):
        if cell is None or not cell.strip():
            audit.add(place, label, "there is no label")
            continue
        try:
            check(cell)
        except ValueError as error:
            audit.add(place, label, str(error))


def _audit_ids(table: Table, audit: RowProblems, column: str) -> None:
    cells = table.columns[column]
    for place, cell in zip(table.places, cells, strict=True):
        if cell is None:
            audit.add(place, column, "there is no id")
    for row, first in repeats(cells).items():
        before = f"{table.unit} {table.places[first]}"
        audit.add(table.places[row], column, f"the id {quoted(cells[row] or '')} was already used in {before}")


def _labelled(table: Table, text: Sequence[str], label: str | None, id_column: str | None, skipped: int) -> Examples:
    return Examples(
        table.name,
        [Texts(table.columns[column]) for column in text],
        Texts(table.columns[label]) if label else [],
        Texts(table.columns[id_column] if id_column else Cells(str(n + 1) for n in range(len(table)))),
        table.places,
        table.unit,
        skipped,
        table.fingerprint,
        table.about,
    )


def _take(column: Sequence[str], rows: Sequence[int] | NDArray[np.int64]) -> Sequence[str]:
    return column.take(rows) if isinstance(column, Texts) else [column[row] for row in rows]
