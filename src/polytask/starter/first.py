"""A first recipe for somebody's tables: `polytask init`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from polytask.errors import RecipeError, Remedy, UserError
from polytask.runtime.files import write_text

from .survey import Survey, pair_up, survey


def first_recipe(tables: Sequence[str | Path], out: Path) -> list[str]:
    """Look at tables, guess their tasks, and write a recipe that a person then corrects. Returns notes on the guesses.

    Raises TableError for a table whose texts or label cannot be told apart, RecipeError if ``out`` is there already.
    """
    if out.exists():
        raise RecipeError(f"{out} already exists.", Remedy("out"))
    pairs, notes = pair_up(tables)
    if not pairs:
        raise UserError("None of these tables can be trained on:\n" + "\n".join(f"  {note}" for note in notes))
    found: dict[str, tuple[Survey, str | None]] = {}
    for train, dev in pairs:
        guess = survey(train)
        found[_free_name(guess.task, found)] = (guess, dev)
        notes += [f"{train}: {guess.note}"] if guess.note else []
    parts = [_HEAD, *(_task(name, guess, dev, out) for name, (guess, dev) in found.items()), _TAIL]
    write_text(out, "\n".join(parts))
    return notes


_HEAD = """\
# Written by `polytask init`: look through it, then `polytask train` it. `polytask show` prints every default.

[encoder]
checkpoint = "minilm"   # small and quick on a CPU; or a folder or hub id, as "bert-base-uncased"
"""

_TAIL = """\
[[stages]]
epochs = 3
learning_rate = 5e-5
"""


def _free_name(name: str, taken: dict[str, tuple[Survey, str | None]]) -> str:
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _task(name: str, guess: Survey, dev: str | None, out: Path) -> str:
    text = _toml(guess.text[0] if len(guess.text) == 1 else guess.text)
    lines = [
        f"[tasks.{name}]   # {guess.rows:,} rows",
        f"kind = {_kind(guess)}",
        f"train = {_toml(_relative(guess.table, out))}",
        f"dev = {_toml(_relative(dev, out))}" if dev else "dev = 0.1   # a share of train, as there is no dev table",
        f"text = {text}",
        f"label = {_toml(guess.label)}" + (f"   # {', '.join(guess.labels[:12])}" if guess.labels else ""),
    ]
    if guess.id is not None and guess.id != "id":
        lines.append(f"id = {_toml(guess.id)}")
    problems = guess.problems + (survey(dev).problems if dev else 0)
    if problems:
        lines.append(f'bad_rows = "skip"   # {problems} rows are broken or have no label')
    return "\n".join(lines) + "\n"


def _kind(guess: Survey) -> str:
    if guess.range is None:
        return f'"{guess.kind}"'
    return f'{{ name = "{guess.kind}", range = [{guess.range[0]}, {guess.range[1]}] }}'


def _relative(table: str, out: Path) -> str:
    if table.startswith("hub:"):
        return table
    return os.path.relpath(table, out.parent)


def _toml(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)
