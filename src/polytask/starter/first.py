"""A first recipe for somebody's tables: `polytask init`."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

from polytask.errors import RecipeError, Remedy, TableError, UserError, one_line
from polytask.runtime.files import write_text
from polytask.tasks.scales import in_order

from .survey import Choices, Survey, pair_up, survey, task_name

_NOTHING = Choices()


def first_recipe(
    tables: Sequence[str | Path], out: Path, choices: Choices = _NOTHING, dev: str | Path | None = None
) -> list[str]:
    """Look at tables, guess their tasks, and write a recipe that a person then corrects. Returns notes on the guesses.

    ``choices`` are what the person says of the tables, ``dev`` the dev table of a single task. A table that cannot be read
    stops no other.
    Raises TableError when none can be, with what is wrong with each; RecipeError if ``out`` is there already.
    """
    if out.exists():
        raise RecipeError(f"{out} already exists.", Remedy("out"))
    pairs, notes = pair_up(tables)
    if dev is not None:
        if len(pairs) != 1:
            raise UserError(f"A dev table belongs to one task; these tables are of {len(pairs)}.")
        pairs = [(pairs[0][0], str(dev))]
    if not pairs:
        raise UserError("None of these tables can be trained on:\n" + "\n".join(f"  {note}" for note in notes))
    found: dict[str, Planned] = {}
    wrong: list[str] = []
    for train, dev_table in pairs:
        try:
            guess = survey(train, choices)
            problems = guess.problems + (survey(dev_table, _as(guess, choices)).problems if dev_table else 0)
        except TableError as error:
            wrong.append(str(error))
            continue
        found[_free_name(guess.task, train, found)] = Planned(guess, dev_table, problems)
        notes += [f"{train}: {note}." for note in guess.notes]
    if not found:
        raise TableError("\n".join(wrong))
    notes += [f"{sentence} It is left out." for sentence in wrong]
    parts = [_HEAD, *(_task(name, planned, out) for name, planned in found.items()), _stage(found.values())]
    write_text(out, "\n".join(parts))
    return notes


class Planned(NamedTuple):
    """A task of the recipe to be written: its train table as it was found, its dev table, and the rows that are no use."""

    guess: Survey
    dev: str | None
    problems: int


def _as(guess: Survey, choices: Choices) -> Choices:
    """Return what the dev table of a task is read as: the same columns, laid out alike."""
    label = (guess.label,) if isinstance(guess.label, str) else tuple(guess.label)
    return Choices(tuple(guess.text), label, guess.kind, replace(choices.layout, columns=guess.layout.columns))


_HEAD = """\
# Written by `polytask init`: look through it, then `polytask train` it. `polytask show` prints every default.

[encoder]
checkpoint = "minilm"   # small and quick on a CPU; or a folder or hub id, as "bert-base-uncased"
# Texts are pooled as the checkpoint was trained to: "mean" for "minilm". A task can say pooling = "cls" or another.
"""


def _stage(found: Iterable[Planned]) -> str:
    """Return the one stage: small tables need more passes, and a new head a higher rate than the encoder."""
    most = max(planned.guess.rows for planned in found)
    epochs = next(epochs for rows, epochs in _EPOCHS if most < rows)
    return f"""\
[[stages]]
epochs = {epochs}   # of the largest table, {most:,} rows
batch_size = 16
learning_rate = 1e-4
head_learning_rate = 5e-3
"""


_EPOCHS = ((500, 20), (2_000, 10), (20_000, 5), (math.inf, 3))


def _free_name(name: str, table: str, taken: Container[str]) -> str:
    """Return a name for a task: its table's; its folder's where the table is only called "train"; with a number if need be."""
    if name == "task" and (folder := task_name(Path(table).resolve().parent.name)):
        name = folder
    free = name
    for number in count(2):
        if free not in taken:
            break
        free = f"{name}_{number}"
    return free


def _task(name: str, planned: Planned, out: Path) -> str:
    guess, dev = planned.guess, planned.dev
    text = _toml(guess.text[0] if len(guess.text) == 1 else guess.text)
    lines = [
        f"[tasks.{name}]   # {guess.rows:,} rows",
        f"kind = {_kind(guess)}",
        f"train = {_toml(_relative(guess.table, out))}",
        f"dev = {_toml(_relative(dev, out))}" if dev else "dev = 0.1   # a share of train, as there is no dev table",
        *_layout(guess),
        f"text = {text}",
        f"label = {_toml(guess.label)}" + (f"   # {_counted(guess.labels)}" if guess.labels else ""),
    ]
    if guess.kind == "ordinal" and not all(map(_NUMBER.fullmatch, guess.labels)):
        lines.append(f"labels = {_toml(in_order(guess.labels))}   # from the lowest to the highest: put them in order")
    if guess.id is not None and guess.id != "id":
        lines.append(f"id = {_toml(guess.id)}")
    if planned.problems:
        lines.append(f'bad_rows = "skip"   # {planned.problems:,} rows are broken, or have no text or no label')
    return "\n".join(lines) + "\n"


_NUMBER = re.compile(r"[+-]?[0-9.]+")

_SHOWN = 12


def _counted(labels: Mapping[str, int]) -> str:
    """Return the labels with their rows, the first of them where they are many."""
    shown = [f"{one_line(label)} {count:,}" for label, count in labels.items()]
    return ", ".join(shown[:_SHOWN]) + (f", … ({len(shown)} labels)" if len(shown) > _SHOWN else "")


def _layout(guess: Survey) -> list[str]:
    """Return the lines that say how a table is laid out, where it is not as its name says."""
    layout = guess.layout
    return [f"{name} = {_toml(_plain(getattr(layout, name)))}" for name in layout.given()]


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _kind(guess: Survey) -> str:
    if guess.range is None:
        return f'"{guess.kind}"'
    return f'{{ name = "{guess.kind}", range = [{guess.range[0]}, {guess.range[1]}] }}'


def _relative(table: str, out: Path) -> str:
    if table.startswith("hub:"):
        return table
    return os.path.relpath(table, out.parent)


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
