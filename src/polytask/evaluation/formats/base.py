"""The contract of a format of predictions. Shapes: N rows, C classes or labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from polytask.errors import UserError
from polytask.registry import Registry

Shown = str | float | list[str]
"""A label's name, a number, or the names of all labels of a row."""


@dataclass(frozen=True)
class Labels:
    """What a task's tables call its label column, and how they spell the labels that predictions show by name."""

    column: str = ""
    spellings: Mapping[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Columns:
    """Predictions of N rows as the columns of a file; those that a task has not are None or empty.

    ``names`` are those of the C columns of ``probabilities_NC``. ``numbers`` are what metrics read beside a prediction,
    and the row's loss, by name.
    """

    ids: Sequence[str]
    predictions: Sequence[Shown]
    names: Sequence[str] = ()
    truth: Sequence[Shown] | None = None
    probabilities_NC: NDArray[np.float64] | None = None
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def records(self) -> list[dict[str, Any]]:
        """Return a record for each row."""
        records: list[dict[str, Any]] = []
        for row, (row_id, prediction) in enumerate(zip(self.ids, self.predictions, strict=True)):
            record: dict[str, Any] = {"id": row_id, "prediction": prediction}
            if self.truth is not None:
                record["truth"] = self.truth[row]
            if self.probabilities_NC is not None:
                record["probabilities"] = dict(zip(self.names, self.probabilities_NC[row].tolist(), strict=True))
            records.append(record | {name: float(values_N[row]) for name, values_N in self.numbers.items()})
        return records


class Format(ABC):
    """A file of predictions that is being written; rows come in one portion or several, all with the same columns.

    ``path`` is where to write; ``labels`` are the task's, for a format that spells them as tables do.
    """

    def __init__(self, path: Path, labels: Labels) -> None:
        self.path = path
        self.labels = labels

    @abstractmethod
    def add(self, rows: Columns) -> None:
        """Write rows. Raises UserError for one that this format has no way to write."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @classmethod
    def read(cls, path: Path) -> Columns:
        """Return what a file holds. Raises UserError for one that cannot be read back."""
        raise UserError(f"{path} cannot be read back: this format does not keep all that there is of a prediction.")


class TextFormat(Format):
    """A format of lines."""

    def __init__(self, path: Path, labels: Labels) -> None:
        super().__init__(path, labels)
        self.file = path.open("w", encoding="utf-8", newline="")

    def close(self) -> None:
        self.file.close()


formats: Registry[Format] = Registry("formats", "polytask.evaluation.formats", "prediction formats")
