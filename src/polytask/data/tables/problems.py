"""Problems of a table's rows, collected so that a person is told of all of them at once."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from polytask.errors import TableError, first_ten, quoted

Policy: TypeAlias = Literal["stop", "skip", "refuse"]
"""What becomes of a table with bad rows: "refuse" stops as "stop" does, where leaving rows out is not on offer."""

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong with a row: ``place`` is the line it starts on, or its 1-based number where there are no lines."""

    place: int
    column: str | None
    message: str
    unit: str = "line"

    def __str__(self) -> str:
        column = "" if self.column is None else f", column {quoted(self.column)}"
        return f"{self.unit} {self.place}{column}: {self.message}"


class RowProblems:
    """The problems of one table, called ``table`` in the error; a place counts ``unit``, "line" or "row".

    However many there are, only the first ones of the table are kept word by word.
    """

    def __init__(self, table: str, unit: str = "line") -> None:
        self.table = table
        self.unit = unit
        self._places = array("q")
        self._first: list[RowProblem] = []

    def add(self, place: int, column: str | None, message: str) -> None:
        """Note one problem."""
        self.add_all([RowProblem(place, column, message, self.unit)])

    def add_all(self, problems: Iterable[RowProblem]) -> None:
        """Note problems that were found elsewhere, such as ``Table.broken``."""
        for problem in problems:
            self._places.append(problem.place)
            self._first.append(problem)
            if len(self._first) >= 100 * _SHOWN:
                self._first = self._in_order()[:_SHOWN]

    @property
    def places(self) -> set[int]:
        """Where the rows with at least one problem are."""
        return set(self._places)

    def stop_or_count(self, policy: Policy) -> int:
        """Return the number of distinct rows with problems; raises TableError when there are any, but for "skip"."""
        if self._places and policy != "skip":
            raise TableError(self.message(policy))
        return len(self.places)

    def message(self, policy: Policy = "stop") -> str:
        """Return the count of bad rows and the first ten problems, in the order of the table."""
        rows = len(self.places)
        bad = "1 row is broken or has" if rows == 1 else f"{rows:,} rows are broken or have"
        skip = f' (bad_rows = "skip" leaves {"it" if rows == 1 else "them"} out)' if policy == "stop" else ""
        problems = [str(problem) for problem in self._in_order()]
        return f"{self.table}: {bad} no usable value{skip}:\n{first_ten(problems, len(self._places))}"

    def _in_order(self) -> list[RowProblem]:
        return sorted(self._first, key=lambda problem: problem.place)
