"""Of any number of labels a row. Shapes: N rows, C labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .base import Metric, Predicted, Truth, metrics
from .classes import f1_of_each


def micro_f1(predicted_NC: ArrayLike, true_NC: ArrayLike) -> float:
    """Return F1 over all entries of two 0/1 tables."""
    return float(f1_of_each(np.asarray(predicted_NC).reshape(-1, 1), np.asarray(true_NC).reshape(-1, 1))[0])


def exact_match(predicted_NC: ArrayLike, true_NC: ArrayLike) -> float:
    """Return the share of rows that are equal in every column of two 0/1 tables."""
    return float((np.asarray(predicted_NC) == np.asarray(true_NC)).all(1).mean())


@metrics.register("micro_f1")
class MicroF1(Metric):
    """F1 over all labels of all rows together."""

    reads = ({"labels"},)

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        return micro_f1(predicted.classes, truth)


@metrics.register("exact_match")
class ExactMatch(Metric):
    """The share of rows of which every label is right."""

    reads = ({"labels"},)

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        return exact_match(predicted.classes, truth)
