"""Tables -> tokenised, labelled rows of each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from polytask.data.tables.examples import Examples, draw_rows, read_examples
from polytask.data.tables.reshape import without
from polytask.data.tables.sources import Source
from polytask.data.tables.splitting import Asked, hold_out, shared_texts
from polytask.errors import TableError, listed, quoted
from polytask.recipe.facts import given_labels, kind_of, layout_of, new_kind, text_columns
from polytask.recipe.settings import Recipe, TaskSettings
from polytask.tasks.kinds.base import Kind, canonical

from .borrowed import borrowed, put_together
from .record import Splits


def read_tables(recipe: Recipe, base: Path, note: Callable[[str], None]) -> dict[str, Splits]:
    """Read every task's tables. Raises TableError for all tables that are wrong, at once.

    What is held out of train is drawn for all tasks together: whoever has their texts in dev has none in train.
    """
    found: dict[str, Splits] = {}
    for borrow in (False, True):  # those that lend rows before those that borrow them
        found |= _read_all(recipe, base, found, borrow, note)
    found = _apart(recipe, found, note)
    for name, splits in found.items():
        _tell_skipped(name, splits, note)
    return {name: found[name] for name in recipe.tasks}


def _read_all(
    recipe: Recipe, base: Path, found: Mapping[str, Splits], borrow: bool, note: Callable[[str], None]
) -> dict[str, Splits]:
    """Return the tables of the tasks that borrow rows, or of those that do not, with what they hold out."""
    read: dict[str, Splits] = {}
    wrong: list[str] = []
    for name, settings in recipe.tasks.items():
        if (settings.rows_from is not None) == borrow:
            try:
                read[name] = _read_task(name, recipe, base, found, note)
            except TableError as error:
                wrong.append(str(error))
    if wrong:
        raise TableError("\n".join(wrong))
    return {name: _some_of(name, splits, recipe) for name, splits in _held_out(recipe, read, note).items()}


def _some_of(name: str, splits: Splits, recipe: Recipe) -> Splits:
    """Return as many rows of train and dev as a task's settings want."""
    settings = recipe.tasks[name]
    train = _some(splits.train, settings.max_rows, recipe.seed, name, "train")
    dev = None if splits.dev is None else _some(splits.dev, settings.dev_rows, recipe.seed, name, "dev")
    return replace(splits, train=train, dev=dev)


def _held_out(recipe: Recipe, read: dict[str, Splits], note: Callable[[str], None]) -> dict[str, Splits]:
    """Return tables with the share of train apart that each task asks for."""
    shares = {name: share for name in read if isinstance(share := recipe.tasks[name].dev, float)}
    asked: list[Asked] = []
    for name, share in shares.items():
        train, kind = read[name].train, new_kind(recipe.tasks[name], read[name].labels)
        strata = [kind.strata(label) for label in train.labels] if train.labels else [()] * len(train)
        asked.append(Asked(train, share, strata))
    for name, halves in zip(shares, hold_out(asked, recipe.seed) if asked else (), strict=True):
        train = read[name].train
        dev = train.take(halves.dev)
        read[name] = replace(read[name], train=train.take(halves.train), dev=dev, all_of_dev=dev)
        if halves.whole_pairs:
            note(
                f"Task '{name}': a row of dev may share one of its two texts with a row of train: so many rows hang together "
                "by their single texts that none would be left for dev."
            )
    return read


def _apart(recipe: Recipe, found: dict[str, Splits], note: Callable[[str], None]) -> dict[str, Splits]:
    """Return tables of which no row is learnt that was drawn for the dev of another task; tell of given ones that overlap."""
    apart = dict(found)
    for name, splits in found.items():
        kept, settings = splits.train, recipe.tasks[name]
        lenders = {rows.task for rows in settings.rows_from or () if "dev" in rows.splits}
        for other, theirs in found.items():
            if theirs.all_of_dev is None or other in lenders:
                continue
            if isinstance(recipe.tasks[other].dev, float):
                before = len(kept)
                kept = without(kept, [theirs.all_of_dev])
                if len(kept) < before:
                    note(
                        f"Task '{name}': {before - len(kept)} rows of train are left out, whose texts are in dev of '{other}'."
                    )
            elif rows := shared_texts(kept, theirs.all_of_dev):
                whose = "" if other == name else f" of '{name}'"
                note(
                    f"Task '{other}': {rows} of the {len(theirs.all_of_dev)} rows of dev have a text that train{whose} "
                    "has as well: what they score is not what new texts would."
                )
        if not len(kept):
            raise TableError(
                f"{splits.train.name}: every row of task '{name}' has a text that another task holds out for dev."
            )
        apart[name] = replace(splits, train=kept)
    return apart


def check_unchanged(noted: Mapping[str, Any], tables: Mapping[str, Splits], run: Path) -> None:
    """Raise TableError that names the tables which are not what they were when a run began, by their fingerprints."""
    changed = [
        f"{task.train.name if task.dev is None or split == 'train' else task.dev.name} (the {split} table of task "
        f"'{name}') has changed since {run} was started."
        for name, task in tables.items()
        for split, fingerprint in task.fingerprints.items()
        if noted.get(name, {}).get(split) != fingerprint
    ]
    if changed:
        raise TableError("\n".join(dict.fromkeys(changed)))


def all_texts(tables: Mapping[str, Splits]) -> Iterator[str]:
    """Yield every text of every task's training table."""
    for task in tables.values():
        for column in task.train.texts:
            yield from column


def source_of(value: str | list[dict[str, object]] | dict[str, str], base: Path) -> Source:
    """Return a table's place: relative paths start from ``base``."""
    if isinstance(value, dict):
        return {column: str(source_of(file, base)) for column, file in value.items()}
    if not isinstance(value, str) or value.startswith("hub:"):
        return value
    path = base / Path(value).expanduser()
    return path if not path.is_relative_to(Path.cwd()) else path.relative_to(Path.cwd())


def _read_task(
    name: str, recipe: Recipe, base: Path, found: Mapping[str, Splits], note: Callable[[str], None]
) -> Splits:
    settings = recipe.tasks[name]
    folder = base / Path(recipe.data or ".").expanduser()
    kind = new_kind(settings, given_labels(settings))
    fitted = kind if kind.labels or not kind.has_labels else None
    parts = [] if settings.train is None else [_read(settings.train, settings, folder, fitted)]
    if settings.rows_from is not None:
        parts += _borrow(name, recipe, found, fitted, note)
    train = put_together(name, parts)
    labels = given_labels(settings)
    if kind.has_labels and not labels:
        labels = {label: label for label in _infer(kind, train)}
    _check_varied(train, labels)
    dev = None
    if settings.dev is not None and not isinstance(settings.dev, float):
        dev = _read(settings.dev, settings, folder, new_kind(settings, labels))
    return Splits(train, dev, labels, dev)


def _read(
    value: str | list[dict[str, object]] | dict[str, str], settings: TaskSettings, folder: Path, kind: Kind | None
) -> Examples:
    source = source_of(value, folder)
    check: Callable[[str], object] = kind.encode if kind is not None else (lambda label: None)
    columns, layout = text_columns(settings), layout_of(settings)
    data = read_examples(source, columns, settings.label, settings.id, settings.bad_rows, check, layout)
    if not len(data):
        raise TableError(f"{data.name}: no usable row is left ({data.skipped} were skipped).")
    return kind_of(settings).shape(data)


def _borrow(
    name: str, recipe: Recipe, found: Mapping[str, Splits], kind: Kind | None, note: Callable[[str], None]
) -> list[Examples]:
    parts, left_out = borrowed(name, recipe, found)
    if left_out:
        note(f"Task '{name}': rows not borrowed because they stand in a dev table: {left_out}.")
    for label in dict.fromkeys(label for part in parts for label in part.labels):
        try:
            if kind is not None:
                kind.encode(label)
        except ValueError as error:
            raise TableError(f"Task '{name}' borrows rows whose label {error}") from error
    return parts


def _infer(kind: Kind, train: Examples) -> list[str]:
    try:
        return kind.infer(train.labels)
    except ValueError as error:
        raise TableError(f"{train.name}: the label column {error}.") from error


def _check_varied(train: Examples, labels: Mapping[str, str]) -> None:
    """Raise TableError when every row has the same label: there is nothing to learn, and no score means anything."""
    if not train.labels:
        return
    first = canonical(train.labels[0])
    if all(canonical(label) == first for label in train.labels):
        others = f" (of {listed(labels)})" if labels else ""
        raise TableError(
            f"{train.name}: every label is {quoted(first)}{others}; at least two different ones are needed."
        )


def _some(data: Examples, wanted: int | None, seed: int, name: str, split: str) -> Examples:
    return data if wanted is None else data.take(draw_rows(len(data), wanted, seed, name, split))


def _tell_skipped(name: str, tables: Splits, note: Callable[[str], None]) -> None:
    for table in (tables.train, tables.dev):
        if table is not None and table.about:
            note(f"{table.name} (task '{name}') is {table.about}.")
        if table is not None and table.skipped:
            note(f"{table.name} (task '{name}'): {table.skipped} broken or unlabelled rows are skipped.")
