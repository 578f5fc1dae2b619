"""Predictions of a table's rows: in memory, and as files. Shapes: N rows, C classes or labels.

Nothing here needs torch, so that reports and comparisons can start from run folders alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.metrics.base import Floats, Predicted, Truth
from polytask.runtime.files import written_out

from .formats.base import Columns, Labels, Shown, formats


@dataclass(frozen=True, eq=False)
class Predictions:
    """What is predicted of N rows, by id, and what became of it.

    ``names`` are those of the classes or labels, in the order of their codes; none where numbers are predicted.
    ``truth`` is what the table says, codes or numbers; None where it says nothing, or the kind reads no label.
    ``loss_N`` is each row's loss; None where there is no truth, or a row alone has none.
    """

    ids: Sequence[str]
    predicted: Predicted
    names: Sequence[str] = ()
    truth: Truth | None = None
    loss_N: Floats | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shown(self) -> list[Shown]:
        """The predictions as a person reads them: a label's name, the names of a row's labels, or a number."""
        predicted = self.predicted
        return predicted.values.tolist() if predicted.codes is None else _named(predicted.codes, self.names)

    @property
    def shown_truth(self) -> list[Shown] | None:
        """The truth, likewise; numbers as the table had them, for labels are kept in single precision."""
        if self.truth is None or self.predicted.codes is not None:
            return None if self.truth is None else _named(self.truth, self.names)
        return [float(str(np.float32(value))) for value in self.truth]

    def columns(self) -> Columns:
        """Return the columns of a file, as far as there are any."""
        return Columns(
            self.ids,
            self.shown,
            self.names,
            self.shown_truth,
            self.predicted.probabilities_NC,
            {**self.predicted.columns, **({} if self.loss_N is None else {"loss": self.loss_N})},
        )

    def records(self) -> list[dict[str, Any]]:
        """Return a record for each row: id, prediction, and what else there is of it."""
        return self.columns().records()


def _named(codes: NDArray[Any], names: Sequence[str]) -> list[Shown]:
    if codes.ndim == 1:
        return [names[code] for code in codes]
    return [[names[int(code)] for code in np.flatnonzero(row_C)] for row_C in codes]


Write: TypeAlias = Callable[[Predictions], None]


@contextmanager
def predictions_file(path: Path, labels: Labels, format: str) -> Iterator[Write]:
    """Give a function that adds predictions to a file; when the block fails, there is no file, or the one before.

    Raises RecipeError for a format that there is not, and UserError for a row that it has no way to write.
    """
    member = formats.member(format)
    with written_out(path) as aside, member(aside, labels) as file:
        yield lambda predictions: file.add(predictions.columns())


def write_predictions(path: Path, predictions: Predictions, labels: Labels, format: str = "csv") -> None:
    """Write the predictions of a whole table."""
    with predictions_file(path, labels, format) as write:
        write(predictions)


def read_predictions(path: Path) -> Predictions:
    """Return the predictions that a run folder keeps of a table, ``predictions/<task>-dev.csv``, bit for bit.

    Raises UserError for a file that is none, or that tells no truth where its kind has one (``polytask predict``).
    """
    kept = formats.member("csv").read(path)
    columns = {name: values_N for name, values_N in kept.numbers.items() if name != "loss"}
    loss_N, names = kept.numbers.get("loss"), kept.names
    if not names:
        values_N = np.array(kept.predictions, dtype=np.float64)
        truth_N = None if kept.truth is None else np.array(kept.truth, dtype=np.float32).astype(np.float64)
        return Predictions(kept.ids, Predicted(values_N=values_N, columns=columns), (), truth_N, loss_N)
    assert kept.truth is not None
    predicted = Predicted(_codes(kept.predictions, names), kept.probabilities_NC, columns=columns)
    return Predictions(kept.ids, predicted, names, _codes(kept.truth, names), loss_N)


def _codes(shown: Sequence[Shown], names: Sequence[str]) -> NDArray[np.int64]:
    code_of = {name: code for code, name in enumerate(names)}
    if not any(isinstance(value, list) for value in shown):
        return np.array([code_of[str(value)] for value in shown], dtype=np.int64)
    codes_NC = np.zeros((len(shown), len(names)), dtype=np.int64)
    for row, value in enumerate(shown):
        assert isinstance(value, list)
        codes_NC[row, [code_of[name] for name in value]] = 1
    return codes_NC
