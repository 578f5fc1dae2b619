"""Predictions as files: ids and order are those of the table; written aside, then renamed."""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from polytask.errors import UserError, quoted
from polytask.runtime.files import written_aside
from polytask.tasks.kinds.base import Decoded
from polytask.tasks.task import Task

Format = Literal["csv", "jsonl", "cs224n"]


def write_predictions(path: Path, task: Task, ids: Sequence[str], decoded: Decoded, format: Format) -> None:
    """Write predictions as ``csv`` (id, prediction, a column for each probability), ``jsonl``, or ``cs224n``.

    ``cs224n`` is the course leaderboard's format: a header, then lines ``id , value``, the value as tables spell it.
    Raises UserError for an id that this format cannot hold.
    """
    with predictions_file(path, task, format) as write:
        write(ids, decoded)


Write: TypeAlias = Callable[[Sequence[str], Decoded], None]


@contextmanager
def predictions_file(path: Path, task: Task, format: Format) -> Iterator[Write]:
    """Give a function that adds predictions to a file; when the block fails, there is no file, or the one before."""
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = _WRITERS[format](file, task)
        started = False

        def write(ids: Sequence[str], decoded: Decoded) -> None:
            nonlocal started
            if not started:
                writer.begin(decoded)
                started = True
            writer.add(ids, decoded)

        yield write


def prediction_records(task: Task, ids: Sequence[str], decoded: Decoded) -> list[dict[str, Any]]:
    """Return a record for each row: id, prediction, and probabilities by label where the kind has them."""
    records: list[dict[str, Any]] = []
    for place, (row_id, value) in enumerate(zip(ids, decoded.values, strict=True)):
        record: dict[str, Any] = {"id": row_id, "prediction": value}
        if decoded.probabilities_NC is not None:
            row = decoded.probabilities_NC[place].tolist()
            record["probabilities"] = dict(zip(task.kind.names, row, strict=True))
        records.append(record)
    return records


class _Writer(ABC):
    def __init__(self, file: IO[str], task: Task) -> None:
        self.file = file
        self.task = task

    def begin(self, decoded: Decoded) -> None:
        """Write the header, if the format has one."""

    @abstractmethod
    def add(self, ids: Sequence[str], decoded: Decoded) -> None:
        """Write rows."""


class _Csv(_Writer):
    def begin(self, decoded: Decoded) -> None:
        names = self.task.kind.names if decoded.probabilities_NC is not None else []
        csv.writer(self.file).writerow(["id", "prediction", *(f"p({name})" for name in names)])

    def add(self, ids: Sequence[str], decoded: Decoded) -> None:
        writer = csv.writer(self.file)
        for place, (row_id, value) in enumerate(zip(ids, decoded.values, strict=True)):
            row = [] if decoded.probabilities_NC is None else [f"{p:.6f}" for p in decoded.probabilities_NC[place]]
            writer.writerow([row_id, ";".join(value) if isinstance(value, list) else value, *row])


class _Jsonl(_Writer):
    def add(self, ids: Sequence[str], decoded: Decoded) -> None:
        for record in prediction_records(self.task, ids, decoded):
            self.file.write(json.dumps(record, ensure_ascii=False) + "\n")


class _Cs224n(_Writer):
    def begin(self, decoded: Decoded) -> None:
        self.file.write(f"id \t Predicted_{self.task.label.title()} \n")

    def add(self, ids: Sequence[str], decoded: Decoded) -> None:
        spelling = dict(zip(self.task.kind.names, self.task.kind.spellings, strict=True))
        for row_id, value in zip(ids, decoded.values, strict=True):
            shown = " ".join(spelling[v] for v in value) if isinstance(value, list) else spelling.get(str(value), value)
            if "," in row_id or len(row_id.splitlines()) > 1:
                raise UserError(
                    f"The id {quoted(row_id)} holds a comma or a line end, which 'cs224n' has no way to write; "
                    "'csv' and 'jsonl' have."
                )
            self.file.write(f"{row_id} , {shown} \n")


_WRITERS: dict[str, type[_Writer]] = {"csv": _Csv, "jsonl": _Jsonl, "cs224n": _Cs224n}
