"""A task's rows, tokenised and with what they are to be answered with."""

from __future__ import annotations

from polytask.data.rows import Layout, TaskRows
from polytask.data.tables.examples import Examples
from polytask.data.tokens import Tokenizer, tokenize
from polytask.runtime.cache import cache_folder
from polytask.tasks.task import Task


def task_rows(data: Examples, task: Task, tokenizer: Tokenizer, *, cache: bool = True) -> TaskRows:
    """Tokenise a task's rows (kept by content in the cache folder) and encode their labels."""
    both = task.consistency is not None and task.pair == "cross"
    place = cache_folder() if cache else None
    columns = tuple(tokenize(column, tokenizer, place) for column in data.texts)
    targets = task.kind.targets(data.labels, columns, tokenizer)
    layout = Layout(
        tokenizer,
        task.max_length,
        separate=task.pair == "bi",
        types=task.token_types,
        both=both,
        ask=targets.ask,
    )
    return TaskRows(layout, columns, data.ids, targets.labels_N)


def training_rows(data: Examples, task: Task, tokenizer: Tokenizer) -> TaskRows:
    """Return the rows that a task trains on: for a language model its texts whole, in pieces where they are too long."""
    rows = task_rows(data, task, tokenizer)
    return rows.in_pieces() if task.kind.in_pieces else rows
