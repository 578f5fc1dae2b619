"""Even groups (the classes of a task, or the bins of its range) in every pass. Shapes: N rows, G groups.

A pass is drawn anew from the generator that it is given, so there is nothing to carry from one to the next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from .batching import Rows


class Evened(ABC):
    """Draws a pass with equally many rows of every group that occurs, in random order; ``sample`` rows at most."""

    def __init__(self, groups_N: NDArray[np.int64], sample: int | None = None) -> None:
        self.members = [np.flatnonzero(groups_N == group) for group in np.unique(groups_N)]
        self.sample = sample

    @abstractmethod
    def size(self, sizes_G: NDArray[np.int64]) -> int:
        """Return the rows of each group in a pass."""

    def __call__(self, generator: np.random.Generator) -> Rows:
        quotas_G = self._quotas(generator)
        rows = [_draw(rows, int(n), generator) for rows, n in zip(self.members, quotas_G, strict=True)]
        return generator.permutation(np.concatenate(rows))

    def _quotas(self, generator: np.random.Generator) -> NDArray[np.int64]:
        groups = len(self.members)
        size = self.size(np.array([len(rows) for rows in self.members]))
        if self.sample is None or size * groups <= self.sample:
            return np.full(groups, size)
        share, left = divmod(self.sample, groups)
        return np.asarray(share + (generator.permutation(groups) < left))


class Oversampled(Evened):
    """Brings every group up to the largest: all of its rows equally often, and a draw of them for the rest."""

    def size(self, sizes_G: NDArray[np.int64]) -> int:
        return int(sizes_G.max())


class Undersampled(Evened):
    """Cuts every group down to the smallest; the rows that are left out are others in each pass."""

    def size(self, sizes_G: NDArray[np.int64]) -> int:
        return int(sizes_G.min())


def _draw(rows: Rows, count: int, generator: np.random.Generator) -> Rows:
    rounds, rest = divmod(count, len(rows))
    return np.concatenate([np.tile(rows, rounds), generator.permutation(rows)[:rest]])
