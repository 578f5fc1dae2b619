"""What a recipe may say of tasks whose rows come from other tasks' tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polytask.errors import RecipeError, nearest

from .members import kind_of
from .settings import Recipe, RowsFrom, TaskSettings

if TYPE_CHECKING:
    pass


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


def _with_columns(settings: TaskSettings, recipe: Recipe) -> TaskSettings:
    if not settings.rows_from or settings.rows_from[0].task not in recipe.tasks:
        return settings
    source, kind = recipe.tasks[settings.rows_from[0].task], kind_of(settings)
    label = source.label if "label" in kind.takes and settings.label is None else settings.label
    changes = {"text": source.text if settings.text is None else settings.text, "label": label}
    return settings.model_copy(update=changes)


def _check_shape(settings: TaskSettings, rows: RowsFrom, source: TaskSettings) -> None:
    if "label" not in kind_of(settings).takes:
        return
    if "label" not in kind_of(source).takes:
        raise RecipeError(f"'{rows.task}' has no labels for it to learn.")
    if rows.each:
        raise RecipeError("each = true leaves a label without its row; it is for 'mlm' and 'ranking'.")
    if _texts(source) != _texts(settings):
        raise RecipeError(f"'{rows.task}' has {_texts(source)} text(s) a row, and this task has {_texts(settings)}.")


def _texts(settings: TaskSettings) -> int:
    return len(settings.text) if isinstance(settings.text, list) else 1
