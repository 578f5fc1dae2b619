"""Guesses what task a table is for: which columns are texts, which one is the label, and of what kind."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal, TypeAlias

from polytask.data.tables.problems import RowProblem
from polytask.data.tables.sources import header, rows_of
from polytask.errors import TableError, listed

Kind: TypeAlias = Literal["classification", "ordinal", "binary", "regression"]

MOST_CLASSES = 100
"""A column with more distinct values than this is no set of classes."""

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
    r"(?:(?P<stem>.*)[-_. :])?(?P<split>train|training|dev|val|valid|validation|test)(?:-student|-\d+-of-\d+)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Survey:
    """A guess at the task of one table, for a first recipe that a person then corrects.

    ``labels`` are the classes as the table spells them (none for a regression), ``range`` the whole numbers around the
    labels of a regression; ``rows`` counts the readable rows, ``problems`` the broken and the unlabelled ones.
    """

    table: str
    task: str
    kind: Kind
    text: list[str]
    label: str
    labels: list[str]
    range: tuple[float, float] | None
    id: str | None
    rows: int
    problems: int
    note: str


def survey(path: str | Path) -> Survey:
    """Read a table once, row by row, and guess. Raises TableError when texts or label cannot be told apart."""
    columns, rows, broken = _look(path)
    ids = [column for column in columns if column.names_rows()]
    label = _label(path, columns)
    texts = _texts(path, columns, label)
    kind, note = label.kind()
    return Survey(
        table=str(path),
        task=task_name(path),
        kind=kind,
        text=[column.name for column in texts],
        label=label.name,
        labels=[] if kind == "regression" else label.classes(),
        range=(float(math.floor(label.low)), float(math.ceil(label.high))) if kind == "regression" else None,
        id=min(ids, key=_Column.unnamed).name if ids else None,
        rows=rows,
        problems=broken + rows - label.filled,
        note=note,
    )


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
    stem = Path(path).stem
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
    values: dict[str | float, str] | None = field(default_factory=dict)
    unique: set[int] | None = field(default_factory=set)

    def see(self, cell: str | None) -> None:
        self.rows += 1
        if cell is None:
            return
        self.filled += 1
        self.words += len(cell.split())
        self.longest = max(self.longest, len(cell))
        number = self._see_number(cell)
        if self.values is not None:
            self.values.setdefault(cell if number is None else number, cell)
            self.values = self.values if len(self.values) <= MOST_CLASSES else None
        if self.unique is not None and self.rows <= CHECKED_UNIQUE:
            self.unique.add(hash(cell))
            self.unique = self.unique if len(self.unique) == self.rows else None

    def _see_number(self, cell: str) -> float | None:
        number = _number(cell) if self.numbers else None
        if number is None:
            self.numbers = False
            return None
        self.whole = self.whole and number.is_integer()
        self.low, self.high = min(self.low, number), max(self.high, number)
        return number

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
        if self.numbers and (not self.whole or self.hinted()):
            return self.low < self.high
        distinct = len(self.values) if self.values is not None else MOST_CLASSES + 1
        most = MOST_CLASSES if self.hinted() else min(10 if self.numbers else MOST_CLASSES, max(2, self.filled // 2))
        return 2 <= distinct <= most and self.mean_words() <= 3

    def is_text(self) -> bool:
        return not self.numbers and self.filled > 0 and not self.identifies()

    def kind(self) -> tuple[Kind, str]:
        """Return the kind of this label, and what a person should know of the guess."""
        values = self.classes()
        if self.numbers and self.values is not None and set(self.values) == {0.0, 1.0}:
            return "binary", ""
        if {value.lower() for value in values} in ({"false", "true"}, {"no", "yes"}):
            return "binary", ""
        if self.numbers and (not self.whole or not 0 < len(values) <= 10):
            return "regression", "the range is rounded from the numbers in this table"
        if self.numbers and len(values) > 2:
            return "classification", 'kind = "ordinal" would make use of the order of these numbers'
        return "classification", ""

    def classes(self) -> list[str]:
        """Return the distinct values as the table spells them, in the order of numbers or letters."""
        if self.values is None:
            return []
        if self.numbers:
            return [self.values[number] for number in sorted(self.values, key=float)]
        return sorted(set(self.values.values()))


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in cell else None


def _look(path: str | Path) -> tuple[list[_Column], int, int]:
    """Return what the columns hold, and the number of readable and of broken rows."""
    columns = [_Column(name) for name in header(path)]
    rows = 0
    broken: list[RowProblem] = []
    for row in rows_of(path, [column.name for column in columns]):
        if isinstance(row, RowProblem):
            broken.append(row)
            continue
        rows += 1
        for column, cell in zip(columns, row[1], strict=True):
            column.see(cell)
    if rows == 0:
        raise TableError(f"{path}: not one of its rows can be read. The first: {broken[0]}.")
    return columns, rows, len(broken)


def _label(path: str | Path, columns: list[_Column]) -> _Column:
    labels = [column for column in columns if column.is_label()]
    if not labels:
        wanted = "a label has at least two and only few distinct values, or is a number with decimals"
        raise _unclear(path, columns, "label", wanted)
    return max(reversed(labels), key=_Column.hinted)  # the last one, where the names do not tell


def _texts(path: str | Path, columns: list[_Column], label: _Column) -> list[_Column]:
    texts = [column for column in columns if column.is_text() and column is not label]
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
