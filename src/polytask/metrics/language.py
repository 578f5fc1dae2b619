"""Of a language model's words. Shapes: N texts."""

from __future__ import annotations

from math import exp, fsum, inf

import numpy as np
from numpy.typing import ArrayLike

from .base import Metric, Predicted, Truth, metrics


def perplexity(surprise_N: ArrayLike, asked_N: ArrayLike) -> float:
    """Return exp of the mean −log p of all words that were asked for, from each text's sum and their number."""
    surprise, asked = (fsum(np.asarray(part_N, dtype=np.float64)) for part_N in (surprise_N, asked_N))
    try:
        return exp(surprise / max(asked, 1.0))
    except OverflowError:
        return inf


@metrics.register("perplexity")
class Perplexity(Metric):
    """exp of the mean −log p of the masked words: among how many equally likely words the model is left to choose."""

    reads = ({"surprise", "asked"},)
    larger_is_better = False
    range = (1.0, inf)

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        return perplexity(predicted.columns["surprise"], predicted.columns["asked"])
