"""The plan: which rows of which tasks a step takes. A pure function of (stage, step)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polytask.data.batching import Rows, TaskStream
from polytask.data.mixing.base import TaskNumbers


@dataclass(frozen=True)
class Micro:
    """Rows of one task that go through the encoder together: part ``index`` of the step, of ``of_rows`` rows of its task."""

    task: str
    rows: Rows
    index: int
    of_rows: int


class Plan:
    """The task sequence of a stage and each task's batches; ``plan(step)`` looks a step up."""

    def __init__(
        self,
        streams: Mapping[str, TaskStream],
        sequence_SK: TaskNumbers,
        micro_batch: int | None = None,
        whole: Set[str] = frozenset(),
    ) -> None:
        """``whole`` are the tasks whose batches are never split, because their rows need each other."""
        self.streams = dict(streams)
        self.names = list(streams)
        self.sequence_SK = sequence_SK
        self.micro_batch = micro_batch
        self.whole = whole
        self._before = _counts_before(sequence_SK, len(self.names))

    @property
    def steps(self) -> int:
        return len(self.sequence_SK)

    @property
    def passes(self) -> dict[str, float]:
        """How often the stage goes through each task's rows; below 1 some of them never come up."""
        batches_T = np.bincount(self.sequence_SK.ravel(), minlength=len(self.names))
        return {name: int(n) / self.streams[name].per_pass for name, n in zip(self.names, batches_T, strict=True)}

    def __call__(self, step: int, most: int | None = None, processes: int = 1) -> tuple[Micro, ...]:
        """Return the micro-batches of a step, of ``most`` rows at most; process r of W runs every W-th from the r-th on.

        No task has a micro-batch of more than ⌈rows / W⌉ rows, so that each process has its share of every task's batch.
        """
        micros: list[Micro] = []
        for number in self.sequence_SK[step]:
            name = self.names[number]
            rows = self.streams[name].batch(int(self._before[step, number]))
            share = -(-len(rows) // processes)
            size = len(rows) if name in self.whole else min(self.micro_batch or share, most or share, share)
            for start in range(0, len(rows), size):
                micros.append(Micro(name, rows[start : start + size], len(micros), len(rows)))
        return tuple(micros)

    def tokens(self, steps: Sequence[int] | None = None) -> int:
        """Return the tokens of the given steps, or of all (estimated from each task's first pass)."""
        if steps is not None:
            micros = [micro for step in steps for micro in self(step)]
            return int(sum(self.streams[m.task].lengths[m.rows].sum() for m in micros))
        per_batch = [
            np.mean([stream.lengths[rows].sum() for rows in stream.batches(0)]) for stream in self.streams.values()
        ]
        return int(np.bincount(self.sequence_SK.ravel(), minlength=len(per_batch)) @ np.asarray(per_batch))


def _counts_before(sequence_SK: TaskNumbers, tasks: int) -> NDArray[np.int64]:
    # A task's cursor at a step is how often it came before: a running count, so nothing has to be carried.
    taken_ST = (sequence_SK[:, :, None] == np.arange(tasks)).sum(1)
    return np.asarray(taken_ST.cumsum(0) - taken_ST)
