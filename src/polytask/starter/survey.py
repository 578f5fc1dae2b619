"""Guesses what task a table is for: which columns are texts, which one is the label, and of what kind."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Literal, TypeAlias

from polytask.data.tables.layout import Layout
from polytask.data.tables.problems import RowProblem
from polytask.data.tables.sources import header, rows_of
from polytask.errors import TableError, listed, nearest
from polytask.tasks.kinds.base import canonical, kinds

from .layouts import find_layout

Kind: TypeAlias = Literal["classification", "ordinal", "binary", "regression", "multilabel"]

MOST_CLASSES = 300
"""A column with more distinct values than this is no set of classes."""

MOST_VALUES = 5_000
"""So many distinct cells of a column are remembered."""

CHECKED_UNIQUE = 100_000
"""So many rows are looked at to see whether a column's values are unique, which bounds the memory of a survey."""

_ID = re.compile(r"(.*_)?(q?id\d?|guid|uuid|uid|idx|index|key)|column \d+|unnamed.*", re.IGNORECASE)
_LABEL = re.compile(
    r"(gold_?|true_?)?(labels?|class|target|y|scores?|ratings?|stars|category|intent|topic|polarity|sentiment|emotion"
    r"|similarity|relatedness|entailment|quality|is_.*)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(.*?)[_ ]?([0-9]|[ab]|left|right)", re.IGNORECASE)
_PARTNERS = ({"premise", "hypothesis"}, {"query", "passage"}, {"query", "document"}, {"question", "answer"})
_SPLIT = re.compile(
    r"(?:(?P<stem>.*)[-_. :])?(?P<split>train|training|dev|val|valid|validation|test|eval)"
    r"(?:[-_. ]?(?:data|set|student|full|split))?(?:[-_. ]\d+(?:-of-\d+)?)?",
    re.IGNORECASE,
)


_PLAIN = Layout()


@dataclass(frozen=True)
class Choices:
    """What a person says of a table, in place of a guess."""

    text: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    kind: str | None = None
    layout: Layout = _PLAIN


@dataclass(frozen=True)
class Survey:
    """A guess at the task of one table, for a first recipe that a person then corrects.

    ``label`` is a column, or several that say 0 or 1 of a label each. ``labels`` are the classes as the table spells them
    (none for a regression) with their rows, ``range`` the whole numbers around the labels of a regression; ``rows`` counts
    the readable rows, ``problems`` those that cannot be learnt from. ``layout`` is what was found of the file beyond its
    name, and ``notes`` what a person should know.
    """

    table: str
    task: str
    kind: str
    text: list[str]
    label: str | list[str]
    labels: dict[str, int]
    range: tuple[float, float] | None
    id: str | None
    rows: int
    problems: int
    layout: Layout
    notes: list[str]


_NOTHING = Choices()


def survey(path: str | Path, choices: Choices = _NOTHING) -> Survey:
    """Read a table row by row, and guess. Raises TableError when texts or label cannot be told apart."""
    layout, notes = find_layout(path, choices.layout)
    columns, rows, broken = _look(path, layout)
    by_name = {column.name: column for column in columns}
    for name in (*choices.text, *choices.label):
        if name not in by_name:
            raise TableError(f"{path} has no column '{name}'.{nearest(name, by_name)} It has {listed(by_name)}.")
    labels = [by_name[name] for name in choices.label] or _labels(path, columns, choices.text)
    texts = [by_name[name] for name in choices.text] or _texts(path, columns, labels)
    kind, note = (choices.kind, "") if choices.kind is not None else _kind(labels)
    if kind not in kinds.names():
        raise TableError(
            f"'{kind}' is not one of the kinds.{nearest(kind, kinds.names())} There are {listed(kinds.names())}."
        )
    first = labels[0]
    if first.decimals():
        layout = replace(layout, decimal=",")
    if absent := first.absent():
        layout = replace(layout, missing=tuple(dict.fromkeys([*layout.missing, *absent])))
        notes.append(
            f"{listed(absent)} in '{first.name}' {'counts' if len(absent) == 1 else 'count'} as no label; see 'missing'"
        )
    notes += [note] if note else []
    notes += _others(columns, labels, texts)
    ids = [column for column in columns if column.names_rows() and column not in (*labels, *texts)]
    counted = {cell: count for cell, count in first.counts().items() if cell not in layout.missing}
    unlabelled = max(rows - column.filled for column in labels) + (first.lacking() if absent else 0)
    return Survey(
        table=str(path),
        task=task_name(path),
        kind=kind,
        text=[column.name for column in texts],
        label=first.name if len(labels) == 1 else [column.name for column in labels],
        labels={}
        if kind == "regression"
        else counted
        if len(labels) == 1
        else {column.name: column.ones() for column in labels},
        range=(float(math.floor(first.low)), float(math.ceil(first.high))) if kind == "regression" else None,
        id=min(ids, key=_Column.unnamed).name if ids else None,
        rows=rows,
        problems=broken + unlabelled + sum(column.rows - column.filled for column in texts),
        layout=layout,
        notes=notes,
    )


_ABSENT = frozenset(["nan", "NaN", "NAN", "NA", "N/A", "n/a", "None", "NULL", "null", "<NA>", "#N/A", "-", "--", "?"])
"""Cells that programs and people write where there is nothing; which of them a table has is said in its recipe."""


def _kind(labels: Sequence[_Column]) -> tuple[str, str]:
    if len(labels) > 1:
        return "multilabel", ""
    return labels[0].kind()


def _others(columns: Sequence[_Column], labels: Sequence[_Column], texts: Sequence[_Column]) -> list[str]:
    """Return a note on the columns that could have been the label as well."""
    others = [column.name for column in columns if column not in (*labels, *texts) and column.is_label()]
    if not others:
        return []
    chosen = listed([column.name for column in labels])
    return [f"the label is {chosen}; {listed(others[:6])} could be it, too"]


def task_name(path: str | Path) -> str:
    """Return the table's name without split and suffix, as a TOML key: "ids-sst-train.csv" becomes "sst"."""
    stem = _stem(str(path))[0].lower().removeprefix("hub:").removeprefix("ids-")
    return re.sub(r"[^a-z0-9_-]+", "_", stem).strip("_-") or "task"


def pair_up(paths: Sequence[str | Path]) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Return (train table, dev table or None) of each task, in the order given, and a note on each table left out.

    "x-train.csv" belongs to "x-dev.csv" (or -val, -valid, -validation) in the same folder; "x-test.csv" is left out.
    Raises TableError when two tables claim the same place.
    """
    found: dict[tuple[Path, str], dict[str, str]] = {}
    for path in map(str, paths):
        stem, split = _stem(path)
        tables = found.setdefault((Path(path).parent, stem), {})
        if split in tables:
            raise TableError(
                f"{tables[split]} and {path} would both be the {split} table of one task: give one of them."
            )
        tables[split] = path
    tests = [(tables.pop("test"), tables.get("train")) for tables in found.values() if "test" in tables]
    return [_pair(tables) for tables in found.values() if tables], [
        f"{test} is left out: {_why_not(test, train)}." for test, train in tests
    ]


def _pair(tables: dict[str, str]) -> tuple[str, str | None]:
    if "train" not in tables:
        return tables["dev"], None
    return tables["train"], tables.get("dev")


def _why_not(test: str, train: str | None) -> str:
    names = header(test)
    lacks = [] if train is None else [name for name in header(train) if name not in names and not _ID.fullmatch(name)]
    if lacks:
        return f"it is a test table without the column {listed(lacks)}; 'polytask predict' takes it"
    return "it is a test table; 'polytask evaluate' takes it"


def _stem(path: str) -> tuple[str, str]:
    """Return what the tables of one task have in common, and the split: train, dev or test."""
    stem = Path(path).stem if Path(path).suffix.lower() != ".gz" else Path(Path(path).stem).stem
    parts = _SPLIT.fullmatch(stem)
    if parts is None:
        return stem, "train"
    splits = {"train": "train", "training": "train", "test": "test"}
    return parts["stem"] or "", splits.get(parts["split"].lower(), "dev")


@dataclass
class _Column:
    """What is remembered of a column: counts, and its distinct values as long as they are few."""

    name: str
    rows: int = 0
    filled: int = 0
    words: int = 0
    longest: int = 0
    numbers: bool = True
    whole: bool = True
    low: float = math.inf
    high: float = -math.inf
    codes: bool = False
    points: bool = True
    commas: bool = False
    lists: int = 0
    nothing: dict[str, int] = field(default_factory=dict)
    values: dict[str, int] | None = field(default_factory=dict)
    unique: set[int] | None = field(default_factory=set)

    def see(self, cell: str | None) -> None:
        self.rows += 1
        if cell is None or not cell.strip():
            return
        self.filled += 1
        if cell.strip() in _ABSENT:
            self.nothing[cell] = self.nothing.get(cell, 0) + 1
            return
        self.words += len(cell.split())
        self.longest = max(self.longest, len(cell))
        self.codes = self.codes or bool(_CODE.fullmatch(cell))
        self.points = self.points and bool(_POINTS.fullmatch(cell))
        self.commas = self.commas or "," in cell
        self.lists = self.lists + bool(_LISTS.fullmatch(cell))
        self._see_number(cell)
        if self.values is not None:
            name = canonical(cell)
            self.values[name] = self.values.get(name, 0) + 1
            self.values = self.values if len(self.values) <= MOST_VALUES else None
        if self.unique is not None and self.rows <= CHECKED_UNIQUE:
            self.unique.add(hash(cell))
            self.unique = self.unique if len(self.unique) == self.rows else None

    def _see_number(self, cell: str) -> None:
        number = _number(cell)
        if number is None:
            self.numbers = False
            number = float(cell.replace(",", ".")) if _POINTS.fullmatch(cell) else None
        if number is None:
            return
        self.whole = self.whole and number.is_integer()
        self.low, self.high = min(self.low, number), max(self.high, number)

    def absent(self) -> list[str]:
        """Return the cells that stand for no value: words for it, in a column of numbers or in few of its rows.

        Where many rows say "None", that is what they have to say.
        """
        rare = self.lacking() < _RARE * self.filled
        return list(self.nothing) if self.numbers or self.decimals() or rare else []

    def lacking(self) -> int:
        """Return the rows of cells that look like words for no value."""
        return sum(self.nothing.values())

    def decimals(self) -> bool:
        """Whether its cells are numbers with commas before the decimals."""
        return not self.numbers and self.points and self.commas and not self._lists_words()

    def counts(self) -> dict[str, int]:
        """Return the classes in the order of numbers or letters, with their rows."""
        known = {**(self.values or {}), **({} if self.absent() else self.nothing)}
        return {name: known[name] for name in (*self.classes(), *(known.keys() - (self.values or {}).keys()))}

    def ones(self) -> int:
        """Return the rows of a column of 0 and 1 that have 1."""
        return sum(count for cell, count in (self.values or {}).items() if cell in ("1", "true"))

    def says(self) -> bool:
        """Whether its cells are 0 and 1, or false and true."""
        return self.values is not None and set(self.values) in ({"0", "1"}, {"0"}, {"false", "true"}, {"false"})

    def several(self) -> bool:
        """Whether its cells list labels: ``['a', 'b']``, or single words between semicolons, commas or bars."""
        if self.lists < _TWO or self.numbers or self.decimals():
            return False
        return self.points or self.lists >= _MOSTLY * self.filled or self._lists_words()

    def _lists_words(self) -> bool:
        """Whether what its lists are made of is what its other cells are: words, or codes, that stand alone as well."""
        cells = list(self.values or ())
        words = {word.strip() for cell in cells if _LISTS.fullmatch(cell) for word in re.split("[;,|]", cell)}
        singles = {cell for cell in cells if not _LISTS.fullmatch(cell)} - {"none"}
        if self.points:  # after the comma of a number stands anything
            last = {cell.rpartition(",")[2] for cell in cells if "," in cell}
            return bool(last) and len(last & singles) >= _MOSTLY * len(last)
        return bool(words) and singles <= words

    def mean_words(self) -> float:
        return self.words / max(self.filled, 1)

    def hinted(self) -> bool:
        """Whether the name says that this is a label."""
        return bool(_LABEL.fullmatch(self.name))

    def identifies(self) -> bool:
        """Whether the name says that this is an id."""
        return bool(_ID.fullmatch(self.name))

    def unnamed(self) -> bool:
        return self.name.startswith(("column ", "Unnamed"))

    def names_rows(self) -> bool:
        return self.identifies() and self.filled > 0 and self.unique is not None and self.longest <= 64

    def is_label(self) -> bool:
        if self.identifies() or self.filled == 0:
            return False
        if self.several() and self.values is not None and len(self.values) < self.filled:
            return True
        if self.decimals():
            return True
        if self.numbers and self.codes and self.values is not None and len(self.values) <= MOST_CLASSES:
            return len(self.values) >= _TWO
        if self.numbers and (not self.whole or self.hinted()):
            return self.low < self.high
        distinct = len(self.values) if self.values is not None else MOST_VALUES
        most = MOST_CLASSES if self.hinted() else min(10 if self.numbers else MOST_CLASSES, max(2, self.filled // 2))
        return 2 <= distinct <= most and self.mean_words() <= 3

    def is_text(self) -> bool:
        return not self.numbers and self.filled > 0 and not self.identifies()

    def kind(self) -> tuple[Kind, str]:
        """Return the kind of this label, and what a person should know of the guess."""
        values = self.classes()
        if self.several():
            return (
                "multilabel",
                'cells with several labels are read as such; kind = "classification" would take each cell for one',
            )
        if values in (["0", "1"], ["false", "true"]) or {value.lower() for value in values} == {"no", "yes"}:
            return "binary", ""
        if self.decimals() or (self.numbers and not self.whole):
            return "regression", "the range is rounded from the numbers in this table"
        if self.numbers and not self._are_classes():
            return (
                "regression",
                'the range is rounded from the numbers in this table; kind = "classification" would take them for classes',
            )
        if self.numbers and _TWO < len(values) <= _SCALE:
            return "classification", 'kind = "ordinal" would make use of the order of these numbers'
        return "classification", ""

    def _are_classes(self) -> bool:
        """Whether whole numbers are codes of classes: few, with a gap or a leading zero, or each in many rows."""
        if self.values is None or len(self.values) > MOST_CLASSES or not self.values:
            return False
        if self.codes or len(self.values) <= _SCALE:
            return True
        by_quantity = _QUANTITY.fullmatch(self.name)
        return not by_quantity and self.filled >= _ROWS_A_CLASS * len(self.values)

    def classes(self) -> list[str]:
        """Return the distinct values, in the order of numbers or letters."""
        if self.values is None:
            return []
        if self.numbers:
            return sorted(self.values, key=lambda cell: (float(cell), cell))
        return sorted(self.values)


_TWO, _SCALE = 2, 10

_ROWS_A_CLASS = 3

_MOSTLY = 0.5

_RARE = 0.05

_CODE = re.compile(r"0[0-9]+")
_POINTS = re.compile(r"-?[0-9]+(?:,[0-9]+)?")
_LISTS = re.compile(r"\[.*\]|[^;,|]{1,40}(?:[;,|] ?[^;,|]{1,40})+")
_QUANTITY = re.compile(
    r".*(scores?|ratings?|similarity|relatedness|years?|age|price|count|percent|value|y)", re.IGNORECASE
)


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in cell else None


def _look(path: str | Path, layout: Layout) -> tuple[list[_Column], int, int]:
    """Return what the columns hold, and the number of readable and of broken rows."""
    columns = [_Column(name) for name in header(path, layout)]
    rows = 0
    broken: list[RowProblem] = []
    for row in rows_of(path, [column.name for column in columns], layout):
        if isinstance(row, RowProblem):
            broken.append(row)
            continue
        rows += 1
        for column, cell in zip(columns, row[1], strict=True):
            column.see(cell)
    if rows == 0:
        raise TableError(f"{path}: not one of its rows can be read. The first: {broken[0]}.")
    return columns, rows, len(broken)


def _labels(path: str | Path, columns: list[_Column], texts: Sequence[str]) -> list[_Column]:
    """Return the label column, or the columns that say 0 or 1 of a label each."""
    labels = [column for column in columns if column.is_label() and column.name not in texts]
    says = [column for column in columns if column.says() and not column.identifies() and column.name not in texts]
    if (
        len(says) > 1
        and sum(column.ones() > 0 for column in says) > 1
        and not any(c.hinted() for c in labels if c not in says)
    ):
        return says
    if not labels:
        wanted = "a label has at least two and only few distinct values, or is a number with decimals"
        raise _unclear(path, columns, "label", wanted)
    return [max(reversed(labels), key=_Column.hinted)]  # the last one, where the names do not tell


def _texts(path: str | Path, columns: list[_Column], labels: Sequence[_Column]) -> list[_Column]:
    texts = [column for column in columns if column.is_text() and column not in labels]
    texts = [column for column in texts if not column.is_label()] or texts
    if not texts:
        raise _unclear(path, columns, "text", "a text is neither a number nor an id")
    best = max(texts, key=_Column.mean_words)
    for pair in combinations(texts, 2):
        if _related(*(column.name.lower() for column in pair)) and _near(best, pair):
            return list(pair)
    for pair in combinations(texts, 2):
        if best in pair and min(map(_Column.mean_words, pair)) >= 3 and _near(best, pair, 0.6):
            return list(pair)
    return [best]


def _near(best: _Column, pair: tuple[_Column, _Column], share: float = 0.25) -> bool:
    return min(map(_Column.mean_words, pair)) >= share * best.mean_words()


def _related(one: str, two: str) -> bool:
    first, second = _NUMBERED.fullmatch(one), _NUMBERED.fullmatch(two)
    return {one, two} in _PARTNERS or bool(first and second and first[1] == second[1])


def _unclear(path: str | Path, columns: list[_Column], what: str, wanted: str) -> TableError:
    saw = listed(column.name for column in columns)
    by_hand = f'[tasks.{task_name(path)}] with text = "…" and label = "…"'
    return TableError(f"{path}: none of the columns {saw} looks like a {what}: {wanted}. Name them by hand: {by_hand}.")
