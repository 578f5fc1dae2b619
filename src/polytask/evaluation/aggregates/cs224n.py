from __future__ import annotations

from collections.abc import Collection
from math import isfinite

import numpy as np

from .base import Aggregate, Score, aggregates


@aggregates.register("cs224n")
class Cs224n(Aggregate):
    """The leaderboard's of the course CS224N: the mean of scores that all lie between 0 and 1.

    A correlation r enters as (1 + r) / 2, and so does whatever else has a range of its own, as its place in it. An
    error e without a largest value enters as 1 / (1 + e), any other of which smaller is better as 1 minus its place.
    """

    def __call__(self, scores: Collection[Score]) -> float:
        return float(np.mean([_share(score) for score in scores]))


def _share(score: Score) -> float:
    low, high = score.metric.range
    if not isfinite(high):
        return 1 / (1 + score.value - low)
    place = score.value if (low, high) == (0.0, 1.0) else (score.value - low) / (high - low)
    return place if score.metric.larger_is_better else 1 - place
