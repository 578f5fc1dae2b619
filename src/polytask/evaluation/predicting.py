"""A model's logits on rows, and what they predict. Shapes: N rows, C logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from polytask.data.batching import Cut, cut
from polytask.data.rows import TaskRows
from polytask.errors import OutOfMemory
from polytask.model import Model
from polytask.packing import RowBatch
from polytask.runtime.device import is_out_of_memory
from polytask.runtime.processes import Processes
from polytask.tasks.kinds.base import Kind, to_numpy
from polytask.tasks.task import Task

from .predictions import Predictions

_TOKENS = 8192


ALONE = Processes()


def predict_logits(
    model: Model,
    task: Task,
    rows: TaskRows,
    device: torch.device,
    ticked: Callable[[int], None] = lambda rows: None,
    processes: Processes = ALONE,
) -> Tensor:
    """Return the logits ``(N, C)`` of all rows, in their order, without dropout. ``ticked`` is told of rows done.

    Several processes have a share of the rows each, and are all told the logits of all.
    """
    training = model.training
    model.eval()
    order = np.argsort(rows.lengths, kind="stable")
    parts: list[Tensor] = []
    places: list[int] = []
    left = cut(order, rows.lengths, Cut(rows=0, tokens=_TOKENS))[::-1]
    if processes.size > 1:
        left = [some for chosen in left for some in np.array_split(chosen, processes.size)][
            processes.rank :: processes.size
        ]
        left = [chosen for chosen in left if len(chosen)]
    try:
        with torch.inference_mode():
            while left:
                chosen = left.pop()
                batch = rows.pack(chosen).to(device)
                logits_NC = _logits_if_they_fit(model, task, batch)
                if logits_NC is None:
                    left += [chosen[len(chosen) // 2 :], chosen[: len(chosen) // 2]]
                    continue
                parts.append(logits_NC)
                places += batch.rows
                ticked(len(chosen))
    finally:
        model.train(training)
    if processes.size == 1:
        return torch.cat(parts)[torch.from_numpy(np.argsort(places))]
    # What the others have is 0 here: adding up exchanges it exactly, and without pickling anything.
    all_NC = torch.zeros(len(rows), processes.most(parts[0].shape[1] if parts else 0))
    if parts:
        all_NC[places] = torch.cat(parts)
    processes.add_up(all_NC)
    return all_NC


def _logits_if_they_fit(model: Model, task: Task, batch: RowBatch) -> Tensor | None:
    try:
        logits_NC = task.kind.condense(model(task.name, batch), batch.labels_N).cpu()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(batch.rows) == 1:
            raise OutOfMemory(f"Memory does not hold even one row of task '{task.name}': lower max_length.") from error
        return None
    return logits_NC


def predict(kind: Kind, logits_NC: Tensor, ids: Sequence[str], labels_N: Tensor | None = None) -> Predictions:
    """Return what the logits of a table's rows predict; with their labels, what they are scored by as well."""
    predicted = kind.decode(logits_NC)
    if labels_N is None:
        return Predictions(ids, predicted, kind.names)
    loss_N = kind.each_loss(logits_NC, labels_N)
    return Predictions(
        ids,
        replace(predicted, columns={**predicted.columns, **kind.beside(logits_NC, labels_N)}),
        kind.names,
        kind.truth(labels_N),
        None if loss_N is None else to_numpy(loss_N),
    )
