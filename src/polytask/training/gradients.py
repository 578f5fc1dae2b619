"""What is measured of the tasks' gradients of one encoder.

Shapes: T tasks with rows in the step, n numbers of the encoder's block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from .optim import Slot

_COLUMNS = 1 << 20  # of a Gramian at once: a few MiB a task, added up in float64


def gramian(gradients_Tn: Tensor) -> Tensor:
    """Return the inner products ``(T, T)`` of gradients, float64 on the CPU."""
    total_TT = torch.zeros(len(gradients_Tn), len(gradients_Tn), dtype=torch.float64, device=gradients_Tn.device)
    for part_Tn in torch.split(gradients_Tn, _COLUMNS, dim=1):
        total_TT += (part_Tn @ part_Tn.t()).double()
    return total_TT.cpu()


def gramian_by_layer(gradients_Tn: Tensor, layer_of: Mapping[Slot, int]) -> dict[int, Tensor]:
    """Return each layer's share of the Gramian, from the lowest layer up."""
    found: dict[int, Tensor] = {}
    for slot, layer in sorted(layer_of.items(), key=lambda item: (item[1], item[0].start)):
        found[layer] = found.get(layer, 0.0) + gramian(gradients_Tn[:, slot.start : slot.stop])
    return found


def cosines(gramian_TT: Tensor, tasks: Sequence[str]) -> dict[str, float]:
    """Return the cosine between each two tasks' gradients, "a~b". A gradient that is zero makes no angle and is left out."""
    norms = gramian_TT.diagonal().sqrt().tolist()
    return {
        f"{a}~{b}": float(gramian_TT[i, j]) / (norms[i] * norms[j])
        for (i, a), (j, b) in combinations(enumerate(tasks), 2)
        if norms[i] * norms[j] > 0
    }


class Conflicts:
    """Counts the steps in which two tasks' gradients pointed away from each other, among those that could tell."""

    def __init__(self) -> None:
        self.counts = torch.zeros(2, dtype=torch.int64)

    def count(self, cosines: Mapping[str, float]) -> None:
        """Take note of a step."""
        if cosines:
            self.counts += torch.tensor([min(cosines.values()) < 0, True])

    @property
    def share(self) -> float | None:
        """The share of steps in conflict; None where no step could tell."""
        conflicts, steps = self.counts.tolist()
        return conflicts / steps if steps else None

    def state_dict(self) -> dict[str, Tensor]:
        """Return both counts."""
        return {"counts": self.counts}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy both counts in."""
        self.counts.copy_(state["counts"])
