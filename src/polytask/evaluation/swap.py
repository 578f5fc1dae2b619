"""How much a pair task's answer depends on which text comes first. Shapes: N rows, C logits or labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polytask.metrics.base import Predicted
from polytask.tasks.task import Task


def swap_gap(task: Task, given_NC: Tensor, swapped_NC: Tensor) -> dict[str, float]:
    """Return the mean and the largest |s(a, b) − s(b, a)| over rows, from the logits of both orders.

    s is what a person is shown: a score as it is predicted, or a label's probability, and of several labels the
    one whose probability moves most.
    """
    given, swapped = task.kind.decode(given_NC), task.kind.decode(swapped_NC)
    gap_N = np.abs(_shown(given) - _shown(swapped)).max(axis=1)
    return {"swap_gap": float(gap_N.mean()), "swap_gap_max": float(gap_N.max())}


def _shown(predicted: Predicted) -> NDArray[np.float64]:
    return predicted.values[:, None] if predicted.probabilities_NC is None else predicted.probabilities
