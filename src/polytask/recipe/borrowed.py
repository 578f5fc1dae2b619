"""Tasks whose rows come from other tasks' tables: Quora's duplicates as ranking pairs, everybody's texts for pretraining."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from polytask.config import Recipe, RowsFrom, TaskSettings
from polytask.data.labelled import Labelled
from polytask.data.reshape import each_text, joined, twice, without
from polytask.errors import RecipeError, TableError, listed, nearest
from polytask.tasks.kinds.base import kinds

from .objectives import kind_of

if TYPE_CHECKING:
    from .tables import Tables


def with_columns(recipe: Recipe) -> Recipe:
    """Return a recipe whose borrowing tasks name their columns too: those of the first task that they borrow from."""
    tasks = {name: _with_columns(settings, recipe) for name, settings in recipe.tasks.items()}
    return recipe.model_copy(update={"tasks": tasks})


def check_rows_from(name: str, recipe: Recipe) -> None:
    """Raise RecipeError when a task cannot have the rows that it asks for."""
    settings = recipe.tasks[name]
    for rows in settings.rows_from or ():
        if rows.task not in recipe.tasks:
            raise RecipeError(f"there is no task '{rows.task}'.{nearest(rows.task, recipe.tasks)}")
        if rows.task == name:
            raise RecipeError("a task cannot borrow rows from itself.")
        source = recipe.tasks[rows.task]
        if source.rows_from is not None:
            raise RecipeError(f"'{rows.task}' itself borrows its rows; name the tasks that it has them from.")
        if rows.label is not None and not kind_of(source).has_labels:
            raise RecipeError(f"'{rows.task}' has no labels, so none can be '{rows.label}'.")
        if "dev" in rows.splits and source.dev is None:
            raise RecipeError(f"'{rows.task}' has no dev table.")
        _check_shape(settings, rows, source)
    if settings.rows_from == []:
        raise RecipeError("it names no task.")


def borrowed(name: str, recipe: Recipe, found: Mapping[str, Tables]) -> tuple[list[Labelled], int]:
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


def shaped(data: Labelled, settings: TaskSettings, *, each: bool = False) -> Labelled:
    """Return rows in the shape that a task's kind reads: single texts for a language model, pairs for ranking."""
    kind = kind_of(settings)
    if kind.reads_labels:
        return data
    data = replace(data, labels=[])
    if kind.head == "words" or each:
        data = each_text(data)
    if kind.head == "vectors" and len(data.texts) == 1:
        return twice(each_text(data))
    return data


def put_together(name: str, parts: list[Labelled]) -> Labelled:
    """Return a task's rows from wherever they come. Raises TableError when there are none."""
    if not parts:
        raise TableError(f"Task '{name}': no row is left to borrow.")
    return (
        parts[0] if len(parts) == 1 else joined(f"rows of {listed(dict.fromkeys(part.name for part in parts))}", parts)
    )


def _with_columns(settings: TaskSettings, recipe: Recipe) -> TaskSettings:
    if not settings.rows_from or settings.rows_from[0].task not in recipe.tasks:
        return settings
    source, kind = recipe.tasks[settings.rows_from[0].task], kind_of(settings)
    label = source.label if kind.reads_labels and settings.label is None else settings.label
    changes = {"text": source.text if settings.text is None else settings.text, "label": label}
    return settings.model_copy(update=changes)


def _check_shape(settings: TaskSettings, rows: RowsFrom, source: TaskSettings) -> None:
    if not kind_of(settings).reads_labels:
        return
    if not kind_of(source).reads_labels:
        raise RecipeError(f"'{rows.task}' has no labels for it to learn.")
    if rows.each:
        raise RecipeError("each = true leaves a label without its row; it is for 'mlm' and 'ranking'.")
    if _texts(source) != _texts(settings):
        raise RecipeError(f"'{rows.task}' has {_texts(source)} text(s) a row, and this task has {_texts(settings)}.")


def _texts(settings: TaskSettings) -> int:
    return len(settings.text) if isinstance(settings.text, list) else 1


def _parts(rows: RowsFrom, settings: TaskSettings, recipe: Recipe, found: Mapping[str, Tables]) -> Iterator[Labelled]:
    tables = found[rows.task]
    for split in dict.fromkeys(rows.splits):
        data = tables.train if split == "train" else tables.dev
        assert data is not None
        chosen = data if rows.label is None else _with_label(data, rows, recipe.tasks[rows.task], tables)
        yield replace(shaped(chosen, settings, each=rows.each), skipped=0)  # its own task has told of those


def _with_label(data: Labelled, rows: RowsFrom, source: TaskSettings, tables: Tables) -> Labelled:
    assert source.kind is not None
    kind = kinds.create(source.kind.name, tables.labels, **source.kind.options)
    spelt = {shown: spelling for spelling, shown in tables.labels.items()} | {own: own for own in tables.labels}
    try:
        wanted = kind.encode(spelt.get(str(rows.label), str(rows.label)))
    except ValueError as error:
        raise TableError(f"Task '{rows.task}': {error}") from error
    return data.take([row for row, label in enumerate(data.labels) if kind.encode(label) == wanted])
