from __future__ import annotations

from collections.abc import Collection

import numpy as np

from .base import Aggregate, Score, aggregates


@aggregates.register("mean")
class Mean(Aggregate):
    """The plain mean of the scores; one of which smaller is better, such as an error, enters with its sign turned.

    All in their own units: beside accuracies, an error or a perplexity of 50 outweighs them.
    """

    def __call__(self, scores: Collection[Score]) -> float:
        return float(np.mean([score.value if score.metric.larger_is_better else -score.value for score in scores]))
