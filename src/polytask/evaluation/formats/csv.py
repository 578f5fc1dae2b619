from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from polytask.errors import UserError

from .base import Columns, Labels, Shown, TextFormat, formats

TRUTH, TRUTHS = "truth", "truths"
"""The column of the truth: one label or number a row, or any number of labels."""


@formats.register("csv")
class Csv(TextFormat):
    """A table with a header: id, prediction, a column p(label) for each probability; what run folders keep."""

    def __init__(self, path: Path, labels: Labels) -> None:
        super().__init__(path, labels)
        self.writer = csv.writer(self.file)
        self.begun = False

    def add(self, rows: Columns) -> None:
        if not self.begun:
            self.writer.writerow(_header(rows))
            self.begun = True
        # With the truth beside it a file is there to be scored again, and digits are kept; else to be looked at.
        digits = ".6f" if rows.truth is None else ""
        numbers = [values_N.tolist() for values_N in rows.numbers.values()]
        for row, (row_id, prediction) in enumerate(zip(rows.ids, rows.predictions, strict=True)):
            self.writer.writerow(
                [
                    row_id,
                    _cell(prediction),
                    *([] if rows.truth is None else [_cell(rows.truth[row])]),
                    *([] if rows.probabilities_NC is None else [f"{p:{digits}}" for p in rows.probabilities_NC[row]]),
                    *(_short(values[row]) for values in numbers),
                ]
            )

    @classmethod
    def read(cls, path: Path) -> Columns:
        """Return what a file holds. Raises UserError for one that is damaged, or was written without the truth."""
        try:
            with path.open(encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file, strict=True)
            columns = dict(zip(header, zip(*rows, strict=True) if rows else [()] * len(header), strict=True))
            return _columns(columns)
        except FileNotFoundError as error:
            raise UserError(f"There are no predictions at {path}.") from error
        except (OSError, ValueError, KeyError, csv.Error) as error:
            raise UserError(f"{path} cannot be read as predictions: {error}.") from error


def _header(rows: Columns) -> list[str]:
    several = rows.truth is not None and any(isinstance(value, list) for value in rows.truth)
    truth = [] if rows.truth is None else [TRUTHS if several else TRUTH]
    names = [] if rows.probabilities_NC is None else [f"p({name})" for name in rows.names]
    return ["id", "prediction", *truth, *names, *rows.numbers]


def _columns(columns: Mapping[str, Sequence[str]]) -> Columns:
    probabilities = {name[2:-1]: values for name, values in columns.items() if name.startswith("p(")}
    numbers = {
        name: np.array(values, dtype=np.float64)
        for name, values in columns.items()
        if name not in ("id", "prediction", TRUTH, TRUTHS) and not name.startswith("p(")
    }
    ids, predictions = columns["id"], columns["prediction"]
    if not probabilities:
        truth = None if TRUTH not in columns else [float(cell) for cell in columns[TRUTH]]
        return Columns(ids, [float(cell) for cell in predictions], truth=truth, numbers=numbers)
    if TRUTHS not in columns and TRUTH not in columns:
        raise ValueError(f"it has no column '{TRUTH}', so it is not of a table with labels")
    names = list(probabilities)
    several = TRUTHS in columns
    read: Callable[[str], Shown] = _labels if several else str
    shown = [[read(cell) for cell in cells] for cells in (predictions, columns[TRUTHS if several else TRUTH])]
    for value in (name for cells in shown for cell in cells for name in (cell if isinstance(cell, list) else [cell])):
        if value not in probabilities:
            raise ValueError(f"it names the label {value!r}, which has no column of probabilities")
    probabilities_NC = np.array(list(probabilities.values()), dtype=np.float64).T
    return Columns(ids, shown[0], names, shown[1], probabilities_NC, numbers)


def _cell(value: Shown) -> str | float:
    """Return a cell; of several labels, their names between semicolons, each quoted if it holds one."""
    if not isinstance(value, list):
        return value
    text = io.StringIO()
    csv.writer(text, delimiter=";").writerow(value)
    return text.getvalue().removesuffix("\r\n")


def _labels(cell: str) -> list[str]:
    return next(csv.reader(io.StringIO(cell, newline=""), delimiter=";"), [])


def _short(value: float) -> str:
    """Return a number in full; a whole one without its fraction."""
    return str(int(value)) if value.is_integer() else str(value)
