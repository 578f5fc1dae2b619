"""How much of a batch memory holds at once."""

from __future__ import annotations

from collections.abc import Sequence, Set

import torch
from torch import Tensor

from polytask.errors import OutOfMemory

from .plan import Micro


class MicroBatchLimit:
    """How many rows memory was found to hold in a micro-batch; None as long as it held whatever was asked.

    Batches of the tasks in ``whole`` cannot be split.
    """

    def __init__(self, whole: Set[str] = frozenset()) -> None:
        self.rows: int | None = None
        self.whole = whole

    def halve(self, micros: Sequence[Micro], where: str) -> None:
        """Allow half of the largest micro-batch from now on. Raises OutOfMemory when none can be split further."""
        largest = max(micros, key=lambda micro: (micro.task not in self.whole, len(micro.rows)))
        if largest.task in self.whole:
            raise OutOfMemory(
                f"Memory does not hold a batch of {len(largest.rows)} rows of task '{largest.task}' ({where}), and its "
                "rows need each other: lower its batch_size or max_length."
            )
        if len(largest.rows) == 1:
            raise OutOfMemory(
                f"Memory does not hold even one row of task '{largest.task}' ({where}): lower max_length."
            )
        self.rows = len(largest.rows) // 2

    def state_dict(self) -> dict[str, Tensor]:
        return {"rows": torch.tensor(self.rows or 0)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.rows = int(state["rows"]) or None
