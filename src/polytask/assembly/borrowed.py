"""Rows that a task borrows from other tasks' tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from polytask.data.tables.examples import Examples
from polytask.data.tables.reshape import joined, without
from polytask.errors import TableError, listed
from polytask.recipe.facts import kind_of
from polytask.recipe.settings import Recipe, RowsFrom, TaskSettings
from polytask.tasks.kinds.base import kinds

if TYPE_CHECKING:
    from .record import Splits


def borrowed(name: str, recipe: Recipe, found: Mapping[str, Splits]) -> tuple[list[Examples], int]:
    """Return the rows that a task borrows, and how many were left out because they stand in a dev table.

    No row whose texts stand in a dev table comes along (``dev_rows`` may have drawn it or not), unless its task's dev
    table is asked for by name.
    """
    settings = recipe.tasks[name]
    asked = settings.rows_from or []
    parts = [part for rows in asked for part in _parts(rows, settings, recipe, found)]
    shown = {rows.task for rows in asked if "dev" in rows.splits}
    held_out = [t.all_of_dev for task, t in found.items() if task not in shown and t.all_of_dev is not None]
    kept = [without(part, held_out) for part in parts]
    return [part for part in kept if len(part)], sum(map(len, parts)) - sum(map(len, kept))


def put_together(name: str, parts: list[Examples]) -> Examples:
    """Return a task's rows from wherever they come. Raises TableError when there are none."""
    if not parts:
        raise TableError(f"Task '{name}': no row is left to borrow.")
    return (
        parts[0] if len(parts) == 1 else joined(f"rows of {listed(dict.fromkeys(part.name for part in parts))}", parts)
    )


def _parts(rows: RowsFrom, settings: TaskSettings, recipe: Recipe, found: Mapping[str, Splits]) -> Iterator[Examples]:
    tables = found[rows.task]
    for split in dict.fromkeys(rows.splits):
        data = tables.train if split == "train" else tables.dev
        assert data is not None
        chosen = data if rows.label is None else _with_label(data, rows, recipe.tasks[rows.task], tables)
        yield replace(kind_of(settings).shape(chosen, each=rows.each), skipped=0)  # its own task has told of those


def _with_label(data: Examples, rows: RowsFrom, source: TaskSettings, tables: Splits) -> Examples:
    assert source.kind is not None
    kind = kinds.create(source.kind.name, tables.labels, **source.kind.options)
    spelt = {shown: spelling for spelling, shown in tables.labels.items()} | {own: own for own in tables.labels}
    try:
        wanted = kind.encode(spelt.get(str(rows.label), str(rows.label)))
    except ValueError as error:
        raise TableError(f"Task '{rows.task}': {error}") from error
    return data.take([row for row, label in enumerate(data.labels) if kind.encode(label) == wanted])
