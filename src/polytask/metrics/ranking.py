"""Of a row's rank among all rows. Shapes: N rows."""

from __future__ import annotations

from math import fsum

import numpy as np
from numpy.typing import ArrayLike

from .base import Metric, Predicted, Truth, metrics


def mrr(rank_N: ArrayLike) -> float:
    """Return the mean reciprocal rank; the first rank is 1."""
    reciprocal_N = 1.0 / np.asarray(rank_N, dtype=np.float64)
    return fsum(reciprocal_N) / len(reciprocal_N)  # exact: the same in whatever order, on whatever processor


@metrics.register("mrr")
class MeanReciprocalRank(Metric):
    """The mean of 1 / rank: how far up each first text finds its second one among those of all rows."""

    reads = ({"rank"},)

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        return mrr(predicted.columns["rank"])
