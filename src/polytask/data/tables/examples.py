"""A task's table, read and audited: texts, ids and encoded labels, and what was left out."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.errors import TableError, quoted
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
    label: str | None,
    id: str | None,
    bad_rows: Policy,
    check: Callable[[str], Any] = lambda label: None,
    layout: Layout = _PLAIN,
) -> Examples:
    """Read a table of a task; without ``label``, only its texts.

    A row that is broken, has an empty text or no label, or a label that ``check`` raises ValueError for, is a problem;
    so is an id that occurs twice. Raises TableError with all of them, or skips and counts them.
    """
    optional = [] if id is not None else ["id"]
    columns = list(dict.fromkeys([*text, *([label] if label else []), *([id] if id else [])]))
    table = read_table(source, columns, optional=optional, layout=layout)
    if label is not None and layout.decimal != ".":
        table.columns[label] = Cells(_point(cell, layout.decimal) for cell in table.columns[label])
    audit = RowProblems(table.name, table.unit)
    audit.add_all(table.broken)
    _audit_cells(table, audit, text, label, check)
    id_column = id or ("id" if "id" in table.columns else None)
    if id_column:
        _audit_ids(table, audit, id_column)
    skipped = audit.stop_or_count(bad_rows)
    data = _labelled(table, text, label, id_column, skipped)
    if not skipped:
        return data
    bad = audit.places
    return data.take(array("q", (row for row, place in enumerate(table.places) if place not in bad)))


def _point(cell: str | None, decimal: str) -> str | None:
    """Return a number with a point before its decimals."""
    return None if cell is None else cell.replace(".", "").replace(decimal, ".")


def dev_split(data: Examples, share: float, stratified: bool, *key: int | str) -> tuple[list[int], list[int]]:
    """Return the rows of train and of dev: about ``share`` of each label for dev, rows with equal texts on one side.

    Raises TableError when one of them would be empty.
    """
    generator = numpy_generator(*key, "dev split")
    group_N, first_G = _groups(data)
    strata: dict[str, array[int]] = {}
    for group, row in enumerate(first_G):
        strata.setdefault(data.labels[row] if stratified else "", array("q")).append(group)
    chosen_G = np.zeros(len(first_G), dtype=bool)
    for label in sorted(strata):
        members = np.asarray(strata[label])
        chosen_G[members[generator.permutation(len(members))[: round(share * len(members))]]] = True
    dev: list[int] = np.flatnonzero(chosen_G[group_N]).tolist()
    train: list[int] = np.flatnonzero(~chosen_G[group_N]).tolist()
    if not train or not dev:
        side = "train" if dev else "dev"
        raise TableError(f"{data.name} has {len(data)} rows: a dev share of {share:g} leaves none for {side}.")
    return train, dev


def _groups(data: Examples) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each row the number of its group, rows with equal texts, and for each group its first row.

    Groups are numbered in the order in which they appear.
    """
    hashes = array("Q")
    for texts in zip(*data.texts, strict=True):
        key = "\0".join(text.strip().lower() for text in texts)
        hashes.append(int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little"))
    _, first, group_N = np.unique(np.asarray(hashes), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[group_N], first[order]


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
