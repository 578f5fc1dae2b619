"""How a stranger's file is laid out, as far as a recipe has to say so: its encoding, and whether it has a header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from polytask.data.tables.layout import Layout
from polytask.data.tables.problems import RowProblem
from polytask.data.tables.sources import open_table, rows_of
from polytask.data.tables.textfiles import Delimited, Text
from polytask.errors import TableError

_SOME = 1_000
"""Rows that are looked at to see whether the first line is one of them."""

_ENCODINGS = ("cp1252", "latin-1")

_NAMES = frozenset(
    {"text", "sentence", "sentence1", "sentence2", "question", "question1", "question2", "label", "labels", "id", "idx"}
    | {"index", "category", "class", "score", "sentiment", "title", "body", "review", "target", "tweet", "content"}
    | {"gold", "source", "premise", "hypothesis"}
)
"""Cells that no first row has, and many headers."""


def find_layout(path: str | Path, given: Layout) -> tuple[Layout, list[str]]:
    """Return the layout of a file beyond what is given, and notes on what was found. Raises TableError."""
    layout, notes = _encoding(path, given)
    table = open_table(path, layout)
    if about := table.about():
        notes.append(about)
    if isinstance(table, Delimited) and layout.header is None and layout.columns is None:
        first = table.header()
        # Under stand-ins for names, so that a first row that says something twice can be read as well.
        plain = replace(layout, columns=tuple(f"column {at}" for at in range(1, len(first) + 1)))
        rows = [
            row[1]
            for row in islice(rows_of(path, plain.columns or (), plain), _SOME)
            if not isinstance(row, RowProblem)
        ]
        if headerless(first, rows[1:]):
            columns = name_columns(rows)
            notes.append(
                f"the first line is a row like the others, so the columns are named here: {', '.join(columns)}"
            )
            return replace(layout, columns=tuple(columns)), notes
    return layout, notes


def _encoding(path: str | Path, given: Layout) -> tuple[Layout, list[str]]:
    """Return the layout with the first encoding in which the whole file is text, where it is not UTF-8."""
    if given.encoding is not None or not Path(path).is_file():
        return given, []
    try:
        with Text(str(path)).lines() as lines:
            for _ in lines:
                lines.record.clear()
    except TableError as error:
        if "which is not UTF-8" not in str(error) or "It looks like" in str(error):
            return given, []  # told by whoever reads it
        for encoding in _ENCODINGS:
            if _is_text(path, encoding):
                return replace(given, encoding=encoding), [
                    f"read as {encoding}, as it is not UTF-8: look at its accents"
                ]
    return given, []


def _is_text(path: str | Path, encoding: str) -> bool:
    try:
        text = Path(path).read_bytes().decode(encoding)
    except UnicodeDecodeError:
        return False
    return not any(ord(letter) < ord(" ") and letter not in "\t\r\n\f" for letter in text)


def headerless(first: Sequence[str], rows: Sequence[Sequence[str | None]]) -> bool:
    """Whether the first line of a table is a row like the others.

    It is a header where one of its cells is a common name of a column, or stands over numbers without being one. It is a row
    where one is a number, repeats a cell of a column of few, or is a sentence over sentences.
    """
    if not rows or any(cell.strip().lower() in _NAMES for cell in first):
        return False
    columns = [[row[at] or "" for row in rows] for at in range(len(first))]
    if any(_all_numbers(cells) and not _number(cell) for cell, cells in zip(first, columns, strict=True)):
        return False
    if list(first) == [str(at) for at in range(len(first))]:
        return False  # the header that pandas writes for columns without names
    return any(_like(cell, cells) for cell, cells in zip(first, columns, strict=True))


def _like(cell: str, cells: Sequence[str]) -> bool:
    distinct = set(cells)
    few = len(distinct) <= max(2, len(cells) // 3)
    words = sum(len(one.split()) for one in cells) / len(cells)
    return (
        (_number(cell) and _all_numbers(cells)) or (few and cell in distinct) or (len(cell.split()) > 3 and words > 3)
    )


def name_columns(rows: Sequence[Sequence[str | None]]) -> list[str]:
    """Return names for columns that have none: text and label where they can be told, else their numbers."""
    columns = [[cell or "" for cell in cells] for cells in zip(*rows, strict=True)]
    words = [sum(len(cell.split()) for cell in cells) / len(cells) for cells in columns]
    longest = max(words)
    texts = [
        at for at, mean in enumerate(words) if mean > 2 and mean >= 0.4 * longest and not _all_numbers(columns[at])
    ]
    names = [f"column {at}" for at in range(1, len(columns) + 1)]
    for number, at in enumerate(texts, 1):
        names[at] = "text" if len(texts) == 1 else f"text{number}"
    others = [at for at in range(len(columns)) if at not in texts and all(columns[at])]
    few = [at for at in others if 1 < len(set(columns[at])) <= max(2, len(columns[at]) // 2)]
    unique = [at for at in others if len(set(columns[at])) == len(columns[at]) > 2]
    scores = [at for at in others if _all_numbers(columns[at]) and any("." in cell for cell in columns[at])]
    if scores or few:
        # Of several that could be, a score, then the one with the fewest classes, then what stands last.
        names[scores[-1] if scores else min(reversed(few), key=lambda at: len(set(columns[at])))] = "label"
    for at in unique:
        if names[at].startswith("column") and "id" not in names:
            names[at] = "id"
    return names


def _all_numbers(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell.strip()]
    return bool(filled) and all(map(_number, filled))


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
