"""Of a number a row, or of classes in their order. Shapes: N rows.

Correlations of a constant are 0 by decision (they are undefined): a model that predicts one value has found nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .base import ERROR, Floats, Metric, Predicted, Truth, metrics


def pearson(predicted_N: ArrayLike, true_N: ArrayLike) -> float:
    """Return Pearson's r; 0 when either side is constant or there are fewer than two rows."""
    predicted, true = np.asarray(predicted_N, dtype=np.float64), np.asarray(true_N, dtype=np.float64)
    if _constant(predicted) or _constant(true):
        return 0.0
    return float(np.corrcoef(predicted, true)[0, 1])


def spearman(predicted_N: ArrayLike, true_N: ArrayLike) -> float:
    """Return Spearman's ρ: Pearson's r of the ranks, ties sharing their mean rank."""
    return pearson(_ranks(predicted_N), _ranks(true_N))


def mse(predicted_N: ArrayLike, true_N: ArrayLike) -> float:
    """Return the mean squared error, in squared units of the label."""
    return float(np.mean((np.asarray(predicted_N, dtype=np.float64) - np.asarray(true_N, dtype=np.float64)) ** 2))


def mae(predicted_N: ArrayLike, true_N: ArrayLike) -> float:
    """Return the mean absolute error, in units of the label."""
    return float(np.mean(np.abs(np.asarray(predicted_N, dtype=np.float64) - np.asarray(true_N, dtype=np.float64))))


def _constant(values_N: Floats) -> bool:
    return len(values_N) < 2 or bool(np.all(values_N == values_N[0]))


def _ranks(values_N: ArrayLike) -> Floats:
    """Return ranks from 1 on. scipy has this too, but whoever opens a run to predict should not wait for scipy."""
    _, place_N, count_G = np.unique(np.asarray(values_N), return_inverse=True, return_counts=True)
    return np.asarray((count_G.cumsum() - (count_G - 1) / 2)[place_N])


class _OfNumbers(Metric):
    reads = ({"values"},)


class _Error(Metric):
    reads = ({"values"}, {"classes", "order"})
    larger_is_better = False
    range = ERROR


def _numbers(predicted: Predicted) -> ArrayLike:
    """Return what is predicted: a number, or the place of a class in their order."""
    return predicted.values if predicted.codes is None else predicted.codes


@metrics.register("pearson")
class Pearson(_OfNumbers):
    """Pearson's r of predictions and labels: whether they lie on a line."""

    range = (-1.0, 1.0)

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        return pearson(predicted.values, truth)


@metrics.register("spearman")
class Spearman(_OfNumbers):
    """Spearman's ρ of predictions and labels: whether they put rows in the same order."""

    range = (-1.0, 1.0)

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        return spearman(predicted.values, truth)


@metrics.register("mse")
class MeanSquaredError(_Error):
    """The mean squared error, in squared units of the label; of ordered classes, of their places."""

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        return mse(_numbers(predicted), truth)


@metrics.register("mae")
class MeanAbsoluteError(_Error):
    """The mean absolute error, in units of the label; of ordered classes, in places."""

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        return mae(_numbers(predicted), truth)
