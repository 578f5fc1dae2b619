"""Rows -> batches of nearly equal length, and one pass after another of them.

The order is derived, not carried: a permutation from (seed, task, pass), cut into batches anew each pass. The n-th
batch of a task is the same however often, and from wherever, it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polytask.runtime.keys import numpy_generator

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """How rows become batches: ``rows`` a batch, as many as fit ``tokens``, or ``batches`` of equal size (± a row).

    ``least`` is the fewest rows of a batch, as far as there are so many: shorter ones are put together.
    """

    rows: int
    tokens: int | None = None
    batches: int | None = None
    least: int = 1


def cut(rows: Rows, lengths: NDArray[np.int64], how: Cut) -> list[Rows]:
    """Cut rows, already sorted by length, into batches; a row longer than the token budget gets a batch of its own."""
    if how.batches is not None:
        return [part for part in np.array_split(rows, how.batches) if len(part)]
    if how.tokens is None:
        return _filled([rows[start : start + how.rows] for start in range(0, len(rows), how.rows)], how.least)
    batches, start, total = [], 0, 0
    for place, row in enumerate(rows):
        if place > start and total + lengths[row] > how.tokens:
            batches.append(rows[start:place])
            start, total = place, 0
        total += int(lengths[row])
    return _filled([*batches, rows[start:]], how.least)


def _filled(batches: list[Rows], least: int) -> list[Rows]:
    """Return batches of ``least`` rows or more: one that is shorter takes in the next, the last joins the one before it."""
    filled: list[Rows] = []
    for batch in batches:
        if filled and len(filled[-1]) < least:
            filled[-1] = np.concatenate([filled[-1], batch])
        else:
            filled.append(batch)
    if len(filled) > 1 and len(filled[-1]) < least:
        filled[-2:] = [np.concatenate(filled[-2:])]
    return filled


def padding_share(batches: Sequence[Rows], lengths: NDArray[np.int64]) -> float:
    """Return the share of padding if each batch were padded to its longest row (packed, there is none)."""
    real = sum(int(lengths[rows].sum()) for rows in batches)
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1.0 - real / padded


@dataclass
class TaskStream:
    """The endless sequence of a task's batches.

    ``sample`` rows, drawn anew each pass, make up a pass; all rows when it is None. ``draw``, when given, draws the
    rows of a pass from its generator instead.
    """

    lengths: NDArray[np.int64]
    how: Cut
    key: tuple[int | str, ...]
    sample: int | None = None
    draw: Callable[[np.random.Generator], Rows] | None = None
    _passes: dict[int, list[Rows]] = field(default_factory=dict, repr=False)
    _ends: list[int] = field(default_factory=list, repr=False)

    def batches(self, number: int) -> list[Rows]:
        """Return the batches of a pass, in the order in which they come."""
        if number not in self._passes:
            if len(self._passes) > 1:
                self._passes.pop(next(iter(self._passes)))
            self._passes[number] = self._cut_pass(number)
        return self._passes[number]

    @property
    def per_pass(self) -> int:
        """Number of batches in the first pass (with a token budget and a sample, later ones may differ by a few)."""
        return len(self.batches(0))

    def batch(self, cursor: int) -> Rows:
        """Return the batch with number ``cursor``, counted over all passes."""
        while not self._ends or self._ends[-1] <= cursor:
            before = self._ends[-1] if self._ends else 0
            self._ends.append(before + len(self.batches(len(self._ends))))
        number = int(np.searchsorted(self._ends, cursor, side="right"))
        return self.batches(number)[cursor - (self._ends[number - 1] if number else 0)]

    def _cut_pass(self, number: int) -> list[Rows]:
        generator = numpy_generator(*self.key, "pass", number)
        rows = self.draw(generator) if self.draw else generator.permutation(len(self.lengths))[: self.sample]
        # A stable sort keeps rows of equal length in their random order: batches differ from pass to pass.
        batches = cut(rows[np.argsort(self.lengths[rows], kind="stable")], self.lengths, self.how)
        return [batches[place] for place in generator.permutation(len(batches))]
