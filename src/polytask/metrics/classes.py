"""Of one class a row. Shapes: N rows, C classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import Floats, Metric, Predicted, Truth, metrics


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
    right_N: NDArray[np.bool_] = probabilities.argmax(1) == np.asarray(true_N)
    bin_N = np.minimum((confidence_N * bins).astype(np.int64), bins - 1)
    gaps = [
        abs(float(right_N[bin_N == b].mean()) - float(confidence_N[bin_N == b].mean())) * float((bin_N == b).mean())
        for b in np.unique(bin_N)
    ]
    return float(sum(gaps))


@metrics.register("accuracy")
class Accuracy(Metric):
    """The share of right answers: of rows, of a language model's masked words, or of pairs that rank first."""

    reads = ({"classes"}, {"right", "asked"}, {"rank"})

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        columns = predicted.columns
        if "rank" in columns:
            return accuracy(columns["rank"], 1)
        if "asked" in columns:
            return float(columns["right"].sum()) / max(float(columns["asked"].sum()), 1.0)
        return accuracy(predicted.classes, truth)


@metrics.register("macro_f1")
class MacroF1(Metric):
    """The mean F1 of the classes that occur, or of all labels where a row has any number of them."""

    reads = ({"classes"}, {"labels"})

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        if predicted.classes.ndim == 2:
            return float(f1_of_each(predicted.classes, truth).mean())
        return macro_f1(predicted.classes, truth)


@metrics.register("quadratic_kappa")
class QuadraticKappa(Metric):
    """Cohen's κ with weights (i − j)²: agreement on ordered classes beyond chance."""

    reads = ({"classes", "order", "probabilities"},)
    range = (-1.0, 1.0)

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        return quadratic_kappa(predicted.classes, truth, predicted.probabilities.shape[1])


@metrics.register("calibration_error")
class CalibrationError(Metric):
    """How far confidence and accuracy are apart, over ``bins`` equal intervals of confidence (Guo et al. 2017, eq. 3)."""

    reads = ({"classes", "probabilities"},)
    larger_is_better = False

    def __init__(self, *, bins: int = 15) -> None:
        if bins < 1:
            raise ValueError(f"bins is {bins}; at least 1 is needed")
        self.bins = bins

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        return calibration_error(predicted.probabilities, truth, self.bins)
