"""A model's logits on rows, and what they score. Shapes: N rows, C logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from polytask.data.batching import Cut, cut
from polytask.data.rows import TaskRows
from polytask.errors import OutOfMemory
from polytask.model import Model
from polytask.packing import RowBatch
from polytask.runtime.device import is_out_of_memory
from polytask.tasks.kinds.base import Kind
from polytask.tasks.task import Task

Scores = dict[str, float]

_TOKENS = 8192


def predict_logits(
    model: Model, task: Task, rows: TaskRows, device: torch.device, ticked: Callable[[int], None] = lambda rows: None
) -> Tensor:
    """Return the logits ``(N, C)`` of all rows, in their order, without dropout. ``ticked`` is told of rows done."""
    training = model.training
    model.eval()
    order = np.argsort(rows.lengths, kind="stable")
    parts: list[Tensor] = []
    places: list[int] = []
    left = cut(order, rows.lengths, Cut(rows=0, tokens=_TOKENS))[::-1]
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
    return torch.cat(parts)[torch.from_numpy(np.argsort(places))]


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


def score(task: Task, logits_NC: Tensor, rows: TaskRows) -> Scores:
    """Return ``n`` and every metric of the task's kind."""
    if rows.labels_N is None:
        raise ValueError(f"task '{task.name}': rows without labels cannot be scored")
    return {"n": len(rows), **task.kind.score(logits_NC, rows.labels_N)}


def first_metrics(scores: Mapping[str, Scores], kinds: Mapping[str, Kind]) -> Scores:
    """Return each task's first metric, the one that its best checkpoint is judged by."""
    return {name: task_scores[kinds[name].first_metric] for name, task_scores in scores.items()}


def aggregate(scores: Mapping[str, Scores], kinds: Mapping[str, Kind], how: Literal["mean", "cs224n"]) -> float:
    """Return the one number that the joint best is judged by.

    "mean" is the plain mean of the first metrics; "cs224n" that of the course's leaderboard, where a correlation r
    enters as (1 + r) / 2.
    """
    firsts = first_metrics(scores, kinds)
    if how == "cs224n":
        firsts = {n: (1 + f) / 2 if kinds[n].first_metric in _CORRELATIONS else f for n, f in firsts.items()}
    return _mean(firsts.values())


_CORRELATIONS = ("pearson", "spearman")


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
