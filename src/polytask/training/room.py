"""How much of a batch memory holds at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from polytask.errors import OutOfMemory

from .plan import Micro


class Room:
    """How many rows memory was found to hold in a micro-batch; None as long as it held whatever was asked."""

    def __init__(self) -> None:
        self.rows: int | None = None

    def halve(self, micros: Sequence[Micro], where: str) -> None:
        """Allow half of the largest micro-batch from now on. Raises OutOfMemory when that was one row."""
        largest = max(micros, key=lambda micro: len(micro.rows))
        if len(largest.rows) == 1:
            raise OutOfMemory(
                f"Memory does not hold even one row of task '{largest.task}' ({where}): lower max_length."
            )
        self.rows = len(largest.rows) // 2

    def state_dict(self) -> dict[str, Tensor]:
        return {"rows": torch.tensor(self.rows or 0)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.rows = int(state["rows"]) or None
