"""Scores, as the journal, the index and every report hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scores:
    """What ``rows`` rows scored: each metric's value, by its name, the one that judges first."""

    rows: int
    values: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return one flat table: "rows", then the metrics."""
        return {"rows": self.rows, **self.values}

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> Scores:
        """Return what ``to_json`` gave."""
        return cls(table["rows"], {name: value for name, value in table.items() if name != "rows"})


@dataclass(frozen=True)
class RunScores:
    """What the tasks of a run scored, and the one number of them that its checkpoints are judged by."""

    tasks: Mapping[str, Scores]
    aggregate: float

    def to_json(self) -> dict[str, Any]:
        """Return the tables of the tasks, and the aggregate."""
        return {"tasks": {name: scores.to_json() for name, scores in self.tasks.items()}, "aggregate": self.aggregate}
