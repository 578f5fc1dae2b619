"""A task's table, read and audited: texts, ids and encoded labels, and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from polytask.errors import TableError
from polytask.runtime.keys import numpy_generator

from .audit import Audit
from .sources import Source, Table, read_table


@dataclass(frozen=True)
class Labelled:
    """The usable rows of a table: one list of texts for each text column, labels as the table spells them."""

    name: str
    texts: list[list[str]]
    labels: list[str]
    ids: list[str]
    places: list[int]
    unit: str
    skipped: int
    fingerprint: str

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> Labelled:
        """Return some of the rows, in the given order."""
        return Labelled(
            self.name,
            [[column[row] for row in rows] for column in self.texts],
            [self.labels[row] for row in rows] if self.labels else [],
            [self.ids[row] for row in rows],
            [self.places[row] for row in rows],
            self.unit,
            self.skipped,
            self.fingerprint,
        )


def read_labelled(
    source: Source,
    text: Sequence[str],
    label: str | None,
    id: str | None,
    bad_rows: Literal["stop", "skip"],
    check: Callable[[str], Any] = lambda label: None,
) -> Labelled:
    """Read a table of a task; without ``label``, only its texts.

    A row that is broken, has an empty text or no label, or a label that ``check`` raises ValueError for, is a problem;
    so is an id that occurs twice. Raises TableError with all of them, or skips and counts them.
    """
    optional = [] if id is not None else ["id"]
    columns = list(dict.fromkeys([*text, *([label] if label else []), *([id] if id else [])]))
    table = read_table(source, columns, optional=optional)
    audit = Audit(table.name, table.unit)
    audit.add_all(table.broken)
    _audit_cells(table, audit, text, label, check)
    id_column = id or ("id" if "id" in table.columns else None)
    if id_column:
        _audit_ids(table, audit, id_column)
    skipped = audit.settle(bad_rows)
    rows = [row for row, place in enumerate(table.places) if place not in audit.places]
    return _labelled(table, text, label, id_column, skipped).take(rows)


def dev_split(data: Labelled, share: float, stratified: bool, *key: int | str) -> tuple[list[int], list[int]]:
    """Return the rows of train and of dev: about ``share`` of each label for dev, rows with equal texts on one side.

    Raises TableError when one of them would be empty.
    """
    generator = numpy_generator(*key, "dev split")
    groups: dict[tuple[str, ...], list[int]] = {}
    for row in range(len(data)):
        groups.setdefault(tuple(column[row].strip().lower() for column in data.texts), []).append(row)
    strata: dict[str, list[list[int]]] = {}
    for rows in groups.values():
        strata.setdefault(data.labels[rows[0]] if stratified else "", []).append(rows)
    dev: list[int] = []
    for label in sorted(strata):
        members = strata[label]
        shuffled = [members[place] for place in generator.permutation(len(members))]
        dev += [row for rows in shuffled[: round(share * len(members))] for row in rows]
    chosen = set(dev)
    train = [row for row in range(len(data)) if row not in chosen]
    if not train or not dev:
        side = "train" if dev else "dev"
        raise TableError(f"{data.name} has {len(data)} rows: a dev share of {share:g} leaves none for {side}.")
    return train, sorted(dev)


def draw_rows(total: int, wanted: int | None, *key: int | str) -> list[int]:
    """Return ``wanted`` of ``total`` rows, drawn once and kept in their order; all when ``wanted`` is None."""
    if wanted is None or wanted >= total:
        return list(range(total))
    return sorted(int(row) for row in numpy_generator(*key, "rows").permutation(total)[:wanted])


def _audit_cells(
    table: Table, audit: Audit, text: Sequence[str], label: str | None, check: Callable[[str], Any]
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


def _audit_ids(table: Table, audit: Audit, column: str) -> None:
    first: dict[str, int] = {}
    for place, cell in zip(table.places, table.columns[column], strict=True):
        if cell is None:
            audit.add(place, column, "there is no id")
        elif first.setdefault(cell, place) != place:
            audit.add(place, column, f"the id '{cell[:80]}' was already used in {table.unit} {first[cell]}")


def _labelled(table: Table, text: Sequence[str], label: str | None, id_column: str | None, skipped: int) -> Labelled:
    return Labelled(
        table.name,
        [[cell or "" for cell in table.columns[column]] for column in text],
        [cell or "" for cell in table.columns[label]] if label else [],
        [cell or "" for cell in table.columns[id_column]] if id_column else [str(n + 1) for n in range(len(table))],
        list(table.places),
        table.unit,
        skipped,
        table.fingerprint,
    )
