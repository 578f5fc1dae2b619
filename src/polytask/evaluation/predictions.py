"""Predictions as files: ids and order are those of the table; written aside, then renamed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from polytask.runtime.files import written_aside
from polytask.tasks.kinds.base import Decoded
from polytask.tasks.task import Task

Format = Literal["csv", "jsonl", "cs224n"]


def write_predictions(path: Path, task: Task, ids: Sequence[str], decoded: Decoded, format: Format) -> None:
    """Write predictions as ``csv`` (id, prediction, a column for each probability), ``jsonl``, or ``cs224n``.

    ``cs224n`` is the course leaderboard's format: a header, then lines ``id , value``, the value as tables spell it.
    """
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        _WRITERS[format](file, task, ids, decoded)


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


def _csv(file: IO[str], task: Task, ids: Sequence[str], decoded: Decoded) -> None:
    writer = csv.writer(file)
    names = task.kind.names if decoded.probabilities_NC is not None else []
    writer.writerow(["id", "prediction", *(f"p({name})" for name in names)])
    for place, (row_id, value) in enumerate(zip(ids, decoded.values, strict=True)):
        row = [] if decoded.probabilities_NC is None else [f"{p:.6f}" for p in decoded.probabilities_NC[place]]
        writer.writerow([row_id, ";".join(value) if isinstance(value, list) else value, *row])


def _jsonl(file: IO[str], task: Task, ids: Sequence[str], decoded: Decoded) -> None:
    for record in prediction_records(task, ids, decoded):
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _cs224n(file: IO[str], task: Task, ids: Sequence[str], decoded: Decoded) -> None:
    spelling = dict(zip(task.kind.names, task.kind.spellings, strict=True))
    file.write(f"id \t Predicted_{task.label.title()} \n")
    for row_id, value in zip(ids, decoded.values, strict=True):
        shown = " ".join(spelling[v] for v in value) if isinstance(value, list) else spelling.get(str(value), value)
        file.write(f"{row_id} , {shown} \n")


_WRITERS: dict[str, Callable[[IO[str], Task, Sequence[str], Decoded], None]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "cs224n": _cs224n,
}
