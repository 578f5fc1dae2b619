"""What predictions score, and the one number of several tasks' scores. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polytask.metrics.base import Metric
from polytask.run.scores import Scores

from .aggregates.base import Aggregate, Score
from .predictions import Predictions

Metrics = Mapping[str, Metric]
"""The metrics of a task, by name; it is judged by the first."""


def score(predictions: Predictions, metrics: Metrics) -> Scores:
    """Return what the rows of a table score by each metric, in their order. Raises ValueError for rows without labels."""
    if predictions.truth is None and not predictions.predicted.columns:
        raise ValueError("rows without labels cannot be scored")
    truth = np.empty(0) if predictions.truth is None else predictions.truth
    values = {name: metric(predictions.predicted, truth) for name, metric in metrics.items()}
    return Scores(len(predictions), values)


def judged(scores: Scores, metrics: Metrics) -> Score:
    """Return a task's score by the metric that judges it."""
    name = next(iter(metrics))
    return Score(metrics[name], scores.values[name])


def aggregated(scores: Mapping[str, Scores], metrics: Mapping[str, Metrics], aggregate: Aggregate) -> float:
    """Return the one number of some tasks' scores; ``metrics`` has those of each task."""
    return aggregate([judged(task_scores, metrics[name]) for name, task_scores in scores.items()])
