"""The contract of a metric. Shapes: N rows, C classes or labels.

Nothing here needs torch: a metric reads arrays, whether a model has just made them or a file has kept them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from polytask.registry import Registry

Floats = NDArray[np.float64]
Truth = NDArray[Any]
"""What the table says of each row: codes ``(N,)``, a 0/1 table ``(N, C)``, numbers ``(N,)``; empty without a label column."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model says of N rows, in numbers.

    ``codes`` are classes ``(N,)``, or a 0/1 table ``(N, C)`` where a row has any number of labels; ``probabilities_NC``
    is of these. ``values_N`` are numbers where there are no classes. ``columns`` hold what metrics read beside that, a
    number for each row: of a language model its counts, of a ranking the rank.
    """

    codes: NDArray[np.int64] | None = None
    probabilities_NC: Floats | None = None
    values_N: Floats | None = None
    columns: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def classes(self) -> NDArray[np.int64]:
        """The codes, of predictions that have them."""
        assert self.codes is not None
        return self.codes

    @property
    def probabilities(self) -> Floats:
        """The probabilities ``(N, C)``, of predictions that have them."""
        assert self.probabilities_NC is not None
        return self.probabilities_NC

    @property
    def values(self) -> Floats:
        """The numbers ``(N,)``, of predictions that have them."""
        assert self.values_N is not None
        return self.values_N


class Metric(ABC):
    """A number that says how good predictions are.

    ``reads``: what it needs of a kind's predictions, as kinds say what they give (``Kind.gives``): all of one of these
    sets. ``larger_is_better``: the direction in which checkpoints are chosen by it. ``range``: its least and its
    largest value.
    """

    reads: ClassVar[tuple[AbstractSet[str], ...]]
    larger_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @abstractmethod
    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        """Return the score of N rows, one at least."""

    @classmethod
    def fits(cls, gives: Collection[str]) -> bool:
        """Say whether predictions that give these can be scored."""
        return any(wanted <= set(gives) for wanted in cls.reads)

    @classmethod
    def gain(cls, value: float, former: float) -> float:
        """Return by how much a value is better than a former one: above 0 only if it is."""
        return value - former if cls.larger_is_better else former - value


ERROR = (0.0, inf)
"""The range of an error: 0 is perfect, and there is no worst."""

metrics: Registry[Metric] = Registry("metrics", "polytask.metrics")
