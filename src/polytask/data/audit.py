"""Problems of a table's rows, collected so that a person is told of all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from polytask.errors import TableError, first_ten


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a row: ``place`` is the line it starts on, or its 1-based number where there are no lines."""

    place: int
    column: str | None
    message: str
    unit: str = "line"

    def __str__(self) -> str:
        column = "" if self.column is None else f", column '{self.column}'"
        return f"{self.unit} {self.place}{column}: {self.message}"


class Audit:
    """The problems of one table, called ``table`` in the error; a place counts ``unit``, "line" or "row"."""

    def __init__(self, table: str, unit: str = "line") -> None:
        self.table = table
        self.unit = unit
        self.problems: list[Problem] = []

    def add(self, place: int, column: str | None, message: str) -> None:
        """Note one problem."""
        self.problems.append(Problem(place, column, message, self.unit))

    def add_all(self, problems: Iterable[Problem]) -> None:
        """Note problems that were found elsewhere, such as ``Table.broken``."""
        self.problems.extend(problems)

    @property
    def places(self) -> set[int]:
        """Where the rows with at least one problem are."""
        return {problem.place for problem in self.problems}

    def settle(self, policy: Literal["stop", "skip"]) -> int:
        """Return the number of distinct rows with problems; "stop" raises TableError when there are any."""
        if self.problems and policy == "stop":
            raise TableError(self.message())
        return len(self.places)

    def message(self) -> str:
        """Return the count of bad rows and the first ten problems, in the order of the table."""
        rows = len(self.places)
        bad = "1 row is broken or has" if rows == 1 else f"{rows:,} rows are broken or have"
        ordered = sorted(self.problems, key=lambda problem: problem.place)
        problems = first_ten([str(problem) for problem in ordered])
        return f'{self.table}: {bad} no usable value (bad_rows = "skip" leaves them out):\n{problems}'
