"""What a task may say, alone or beside the tasks that it borrows rows from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polytask.data.tables.layout import problems_of
from polytask.errors import listed, nearest, shown
from polytask.heads.logits.base import heads
from polytask.metrics.base import metrics
from polytask.recipe.facts import given_labels, is_auxiliary, kind_of, label_columns, layout_options, text_columns
from polytask.recipe.reading import Problem
from polytask.recipe.settings import Member, Recipe, RowsFrom, TaskSettings
from polytask.tasks.kinds.base import Kind, kinds

from .members import Made
from .names import name_rules

_WITHOUT = {
    "head": "takes no 'head': it has its own, or none.",
    "pooling": "takes no 'pooling': it looks at single tokens.",
    "projection": "takes no 'projection': it looks at single tokens.",
    "symmetric": "takes no 'symmetric'; a ranking task has an option of that name.",
    "resample": "reads no labels that 'resample' could even out.",
    "label": "reads no labels; leave out 'label' (to learn from the rows of one label only, "
    "take them from their task: rows_from = [{ task = …, label = … }]).",
}
"""What is said of a setting to a kind that does not take it."""


def task_rules(recipe: Recipe, made: Made) -> Iterator[Problem]:
    """Yield what is wrong with a recipe's tasks."""
    yield from name_rules(recipe)
    yield from _path("data", recipe.data)
    for name, task in recipe.tasks.items():
        where = f"tasks.{name}"
        yield from _columns(where, task)
        yield from _kind(where, task)
        yield from _pair(where, task)
        yield from ((f"{where}.rows_from", sentence) for sentence in _borrowing(name, recipe))
        yield from ((f"{where}.head", sentence) for sentence in _head(where, task, made))
        yield from _metrics(where, task)
        yield from _rows(where, task, made.get(f"{where}.kind"))
        yield from _evaluation(where, task)
        yield from _labels(where, task)
        for key in ("train", "dev"):
            yield from _path(f"{where}.{key}", getattr(task, key))
        yield from ((f"{where}.{option}", sentence) for option, sentence in problems_of(layout_options(task)))


def _path(place: str, path: object) -> Iterator[Problem]:
    try:
        Path(path).expanduser() if isinstance(path, str) else None
    except RuntimeError:
        yield place, f"is {shown(path)}, the home folder of somebody whom this machine does not know."


def _columns(where: str, task: TaskSettings) -> Iterator[Problem]:
    borrows = task.rows_from is not None  # its columns are its source's, where those are wrong, too
    texts = text_columns(task)
    # A key that nothing reads is refused, not ignored: whoever wrote it believes that it does something.
    if task.train is None and not borrows:
        yield f"{where}.train", "is missing: the table to learn from (or 'rows_from': tasks to borrow rows from)."
    if task.text is None and not borrows:
        running = isinstance(task.train, str) and task.train.endswith(".txt")
        columns = " A .txt file has 'sentence' and, for pairs, 'next'." if running else ""
        yield f"{where}.text", f"is missing: the name of the text column, or of two for a pair.{columns}"
    if isinstance(task.text, list) and len(texts) not in (1, 2):
        yield f"{where}.text", f"names {len(texts)} columns; a task has one text or two."
    if task.label is None and not borrows and "label" in kind_of(task).takes:
        yield f"{where}.label", "is missing: the name of the label column."
    labels = label_columns(task)
    for key, named in (("text", texts), ("label", labels), ("id", (task.id,))):
        if "" in named:
            yield f"{where}.{key}", "is an empty text; wanted the name of a column."
    # Twice one column is what contrastive pretraining reads (SimCSE: the same text under two dropout masks), no pair of labels.
    if len(texts) == 2 and texts[0] == texts[1] and "label" in kind_of(task).takes:
        yield f"{where}.text", f"names the column '{texts[0]}' twice; a pair has two texts."
    for label in labels:
        if label in texts:
            yield f"{where}.label", f"is '{label}', which is a text column, too."
    if isinstance(task.label, list) and task.kind is not None and task.kind.name != "multilabel":
        yield f"{where}.label", 'is a list of columns, one for each label: that is kind = "multilabel".'
    elif isinstance(task.label, list) and len(labels) < 2:
        yield f"{where}.label", "is a list of columns, one for each label; name at least two."
    elif isinstance(task.label, list) and task.labels is not None and list(given_labels(task)) != task.label:
        yield f"{where}.labels", f"names other labels than the columns, {listed(labels)}, in their order."
    if twice := doubled(list(labels)):
        yield f"{where}.label", f"names {listed(twice)} twice."
    if task.id is not None and task.id in labels:
        yield f"{where}.id", f"is '{task.id}', which is the label column, too."


def _kind(where: str, task: TaskSettings) -> Iterator[Problem]:
    if task.kind is None:
        yield f"{where}.kind", f"is missing; there are {listed(kinds.names())} (or give a 'preset')."
        return
    for key, sentence in _WITHOUT.items():
        if key not in kind_of(task).takes and getattr(task, key) != TaskSettings.model_fields[key].default:
            yield where, f"'{task.kind.name}' {sentence}"


def _pair(where: str, task: TaskSettings) -> Iterator[Problem]:
    modes, plain = kind_of(task).pairs, Member(name="cross")
    if len(modes) == 1:
        if task.pair not in (plain, Member(name="bi")):
            name = "" if task.kind is None else task.kind.name
            yield f"{where}.pair", f"'{name}' compares its texts' own vectors or tokens: 'pair' takes no options there."
    elif len(text_columns(task)) == 1 and task.pair != plain:
        yield f"{where}.pair", "a task with one text column has no pair; name two columns in 'text'."
    features = task.pair.options.get("features")
    if isinstance(features, list) and (twice := doubled([str(feature) for feature in features])):
        yield f"{where}.pair.features", f"names {listed(twice)} twice."
    if task.symmetric is not False and len(text_columns(task)) == 1:
        yield f"{where}.symmetric", "a task with one text column has no order; name two columns in 'text'."


def _borrowing(name: str, recipe: Recipe) -> Iterator[str]:
    """Yield why a task cannot have the rows that it asks for."""
    task = recipe.tasks[name]
    if task.rows_from == []:
        yield "it names no task."
    for rows in task.rows_from or ():
        if rows.task not in recipe.tasks:
            yield f"there is no task '{rows.task}'.{nearest(rows.task, recipe.tasks)}"
        elif rows.task == name:
            yield "a task cannot borrow rows from itself."
        else:
            yield from _lending(rows, task, recipe.tasks[rows.task])


def _lending(rows: RowsFrom, task: TaskSettings, source: TaskSettings) -> Iterator[str]:
    if source.rows_from is not None:
        yield f"'{rows.task}' itself borrows its rows; name the tasks that it has them from."
    if rows.label is not None and not kind_of(source).has_labels:
        yield f"'{rows.task}' has no labels, so none can be '{rows.label}'."
    if "dev" in rows.splits and source.dev is None:
        yield f"'{rows.task}' has no dev table."
    if "label" not in kind_of(task).takes:
        return
    if "label" not in kind_of(source).takes:
        yield f"'{rows.task}' has no labels for it to learn."
    if rows.each:
        yield "each = true leaves a label without its row; it is for 'mlm' and 'ranking'."
    # A label belongs to all the texts of its row: where labels are read, their number has to agree.
    own, theirs = (len(text_columns(settings)) for settings in (task, source))
    if own != theirs:
        yield f"'{rows.task}' has {theirs} text(s) a row, and this task has {own}."


def _head(where: str, task: TaskSettings, made: Made) -> Iterator[str]:
    """Yield why a head fits neither what its kind reads nor the pair features that it is given.

    A cosine goes into an output made for cosines, and nothing else does: 5·x of an unbounded logit would only be a raw
    output by another name, and a raw score that cannot leave [−1, 1] would miss most ranges.
    """
    kind, mode = made.get(f"{where}.kind"), made.get(f"{where}.pair")
    pair = len(text_columns(task)) == 2
    if kind is None or "head" not in kind.takes or task.head.name not in heads.names() or (pair and mode is None):
        return  # told where it belongs
    head = heads.member(task.head.name)
    features = mode.features() if pair and mode is not None else None
    if head.gives != kind.reads:
        fitting = [other for other in heads.names() if heads.member(other).gives == kind.reads]
        yield (
            f"'{task.head.name}' gives {_spoken(head.gives)}, and the task's kind as set here takes "
            f"{_spoken(kind.reads)}: use {listed(fitting)}{kind.instead()}."
        )
    elif head.features is not None and features != head.features:
        has = "one vector for both texts (or only one text)" if features is None else listed(features)
        wanted = ", ".join(f'"{feature}"' for feature in head.features)
        yield (
            f"'{task.head.name}' reads the pair feature {listed(head.features)} and nothing else; here it would read {has}. "
            f'Use pair = {{ name = "bi", features = [{wanted}] }}.'
        )


def _spoken(what: str) -> str:
    return "a cosine" if what == "cosine" else what


def _metrics(where: str, task: TaskSettings) -> Iterator[Problem]:
    names = [member.name for member in task.metrics or ()]
    places = [(f"{where}.metrics.{place}", name) for place, name in enumerate(names)]
    for number, (place, name) in enumerate(places):
        if name in names[:number]:
            yield place, f"names '{name}' twice."
    if task.judged_by is not None and task.judged_by not in names:
        places.append((f"{where}.judged_by", task.judged_by))
    gives = kind_of(task).gives
    for place, name in places:
        if name not in metrics.names():
            yield (
                place,
                f"'{name}' is not one of the metrics.{nearest(name, metrics.names())} There are {listed(metrics.names())}.",
            )
        elif task.kind is not None and not metrics.member(name).fits(gives):
            able = [other for other in metrics.names() if metrics.member(other).fits(gives)]
            yield place, f"the kind '{task.kind.name}' has no '{name}'; it has {listed(able)}."


def _rows(where: str, task: TaskSettings, kind: Kind | None) -> Iterator[Problem]:
    if task.resample is not None and kind is not None:
        try:
            # Asked of no rows at all: whether a kind can tell groups apart does not depend on them.
            kind.groups(kind.collate([]), task.resample.bins)
        except ValueError as error:
            yield f"{where}.resample", f"{error}."
    if task.phrases is not None and "phrases" not in kind_of(task).takes:
        yield f"{where}.phrases", "'phrases' are rows with labels, and this task reads none."
    if task.phrases is not None and len(text_columns(task)) == 2:
        yield f"{where}.phrases", "'phrases' are single texts, and this task reads two."


def _evaluation(where: str, task: TaskSettings) -> Iterator[Problem]:
    if isinstance(task.dev, float) and not 0 < task.dev < 1:
        yield f"{where}.dev", f"is {task.dev}; a share of train lies between 0 and 1."
    if task.evaluate and task.dev is None:
        yield where, "evaluate = true needs a dev table, or a share of train for it: 'dev'."
    if task.dev_rows is not None and task.dev is None:
        yield f"{where}.dev_rows", "does nothing: this task has no 'dev'."
    if task.evaluate is False and isinstance(task.dev, float):
        yield f"{where}.dev", "would take rows from train that evaluate = false never scores; leave it out."
    if is_auxiliary(task) and task.evaluate is False and task.dev is not None and task.dev_rows is not None:
        yield f"{where}.dev_rows", "does nothing beside evaluate = false."


def _labels(where: str, task: TaskSettings) -> Iterator[Problem]:
    if task.labels is None:
        return
    labels = given_labels(task)
    if not labels and not (task.kind is not None and task.kind.name == "regression"):
        yield f"{where}.labels", "is empty; leave it out to take the labels of train."
    if twice := doubled(list(task.labels)):
        yield f"{where}.labels", f"names {listed(twice)} twice."
    if isinstance(task.labels, dict) and (twice := doubled(list(labels.values()))):
        yield f"{where}.labels", f"shows two labels as {listed(twice)}: predictions could not tell them apart."
    if any(not label.strip() for label in labels):
        yield f"{where}.labels", "names an empty label; an empty cell of a table is a row without a label."


def doubled(names: list[str]) -> list[str]:
    """Return the names that occur twice or more."""
    return sorted({name for name in names if names.count(name) > 1})
