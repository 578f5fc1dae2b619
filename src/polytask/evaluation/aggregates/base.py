"""The contract of an aggregate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

from polytask.metrics.base import Metric
from polytask.registry import Registry


@dataclass(frozen=True)
class Score:
    """What a task scored by the metric that judges it."""

    metric: Metric
    value: float


class Aggregate(ABC):
    """The one number that joint checkpoints are judged by; larger is better.

    A member says how a metric enters of which smaller is better: better scores must make a larger number.
    """

    @abstractmethod
    def __call__(self, scores: Collection[Score]) -> float:
        """Return the number for the scores of one task at least, each by the metric that judges it."""


aggregates: Registry[Aggregate] = Registry("aggregates", "polytask.evaluation.aggregates")
