"""Scores of predictions. Shapes: N rows, C classes.

Correlations of a constant are 0 by decision (they are undefined): a model that predicts one value has found nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


def accuracy(predicted_N: ArrayLike, true_N: ArrayLike) -> float:
    """Return the share of equal entries."""
    return float(np.mean(np.asarray(predicted_N) == np.asarray(true_N)))


def f1_of_each(predicted_NC: ArrayLike, true_NC: ArrayLike) -> Floats:
    """Return 2TP / (2TP + FP + FN) of each column of two 0/1 tables; 0 where a label neither is nor was predicted."""
    predicted, true = np.asarray(predicted_NC, dtype=bool), np.asarray(true_NC, dtype=bool)
    hits = 2.0 * (predicted & true).sum(0)
    all_named = predicted.sum(0) + true.sum(0)
    return np.asarray(np.divide(hits, all_named, out=np.zeros_like(hits), where=all_named > 0))


def macro_f1(predicted_N: ArrayLike, true_N: ArrayLike) -> float:
    """Return the mean F1 over the classes that occur among the predictions or the truth (as scikit-learn does)."""
    predicted, true = np.asarray(predicted_N), np.asarray(true_N)
    classes = np.unique(np.concatenate([predicted, true]))
    return float(f1_of_each(predicted[:, None] == classes, true[:, None] == classes).mean())


def micro_f1(predicted_NC: ArrayLike, true_NC: ArrayLike) -> float:
    """Return F1 over all entries of two 0/1 tables."""
    return float(f1_of_each(np.asarray(predicted_NC).reshape(-1, 1), np.asarray(true_NC).reshape(-1, 1))[0])


def pearson(predicted_N: ArrayLike, true_N: ArrayLike) -> float:
    """Return Pearson's r; 0 when either side is constant or there are fewer than two rows."""
    predicted, true = np.asarray(predicted_N, dtype=np.float64), np.asarray(true_N, dtype=np.float64)
    if _constant(predicted) or _constant(true):
        return 0.0
    return float(np.corrcoef(predicted, true)[0, 1])


def spearman(predicted_N: ArrayLike, true_N: ArrayLike) -> float:
    """Return Spearman's ρ: Pearson's r of the ranks, ties sharing their mean rank."""
    return pearson(stats.rankdata(predicted_N), stats.rankdata(true_N))


def mse(predicted_N: ArrayLike, true_N: ArrayLike) -> float:
    """Return the mean squared error, in squared units of the label."""
    return float(np.mean((np.asarray(predicted_N, dtype=np.float64) - np.asarray(true_N, dtype=np.float64)) ** 2))


def mae(predicted_N: ArrayLike, true_N: ArrayLike) -> float:
    """Return the mean absolute error, in units of the label."""
    return float(np.mean(np.abs(np.asarray(predicted_N, dtype=np.float64) - np.asarray(true_N, dtype=np.float64))))


def quadratic_kappa(predicted_N: ArrayLike, true_N: ArrayLike, classes: int) -> float:
    """Return Cohen's κ with weights (i − j)², for classes 0 … ``classes`` − 1; 0 when no disagreement is expected."""
    confusion_CC = np.zeros((classes, classes))
    np.add.at(confusion_CC, (np.asarray(true_N, dtype=np.int64), np.asarray(predicted_N, dtype=np.int64)), 1.0)
    expected_CC = np.outer(confusion_CC.sum(1), confusion_CC.sum(0)) / confusion_CC.sum()
    weights_CC = np.subtract.outer(np.arange(classes), np.arange(classes)) ** 2.0
    expected = float((weights_CC * expected_CC).sum())
    return 1.0 - float((weights_CC * confusion_CC).sum()) / expected if expected else 0.0


def calibration_error(probabilities_NC: ArrayLike, true_N: ArrayLike, bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al. 2017, eq. 3) over ``bins`` equal intervals of confidence."""
    probabilities = np.asarray(probabilities_NC, dtype=np.float64)
    confidence_N = probabilities.max(1)
    right_N = probabilities.argmax(1) == np.asarray(true_N)
    bin_N = np.minimum((confidence_N * bins).astype(np.int64), bins - 1)
    gaps: Sequence[float] = [
        abs(float(right_N[bin_N == b].mean()) - float(confidence_N[bin_N == b].mean())) * float((bin_N == b).mean())
        for b in np.unique(bin_N)
    ]
    return float(sum(gaps))


def _constant(values: Floats) -> bool:
    return len(values) < 2 or bool(np.all(values == values[0]))
