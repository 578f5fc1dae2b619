"""What is measured of the tasks' gradients of one encoder.

Shapes: T tasks with rows in the step, n numbers of the encoder's block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, combinations_with_replacement

import torch
from torch import Tensor

from .optim import Slot

_COLUMNS = 1 << 19  # of a Gramian at once: 2 MiB a task, which stay in the cache; added up in float64
_SHORT = 1e7 * torch.finfo(torch.float32).tiny  # a mean square below which what underflows is more than fp32 rounds off
_HEAVIEST = 1e36  # a weight
_NONE = (
    1e-30  # the largest entry of a gradient that counts as zero: weights that made much of it would not fit into fp32
)


def gramian(gradients_Tn: Tensor) -> Tensor:
    """Return the inner products ``(T, T)`` of gradients, float64 on the CPU.

    Squares of numbers below 1e-19 are below fp32's smallest: a gradient that is so short that they would be missed, such
    as that of a task which is as good as learned, is divided by its largest entry first.
    """
    found_TT = _summed(torch.split(gradients_Tn, _COLUMNS, dim=1))
    sizes_T = _sizes(gradients_Tn, found_TT.diagonal())
    if ((sizes_T == 1.0) | (sizes_T == 0.0)).all():
        return found_TT * sizes_T * sizes_T[:, None]
    return _summed(_divided(gradients_Tn, sizes_T)) * sizes_T * sizes_T[:, None]


def _sizes(gradients_Tn: Tensor, squares_T: Tensor) -> Tensor:
    """Return by what to divide each gradient for its square to be exact: 1 for most; 0 for one that counts as zero."""
    sizes_T = torch.ones_like(squares_T)
    for task in (squares_T < _SHORT * gradients_Tn.shape[1]).nonzero().flatten().tolist():
        low, high = torch.aminmax(gradients_Tn[task])
        largest = max(-float(low), float(high))
        sizes_T[task] = largest if largest >= _NONE else 0.0
    return sizes_T


def _divided(gradients_Tn: Tensor, sizes_T: Tensor) -> Iterator[Tensor]:
    divisor_T1 = torch.where(sizes_T > 0, sizes_T, 1.0).to(gradients_Tn)[:, None]
    held_Tn = torch.empty_like(gradients_Tn[:, :_COLUMNS])
    for part_Tn in torch.split(gradients_Tn, _COLUMNS, dim=1):
        yield torch.div(part_Tn, divisor_T1, out=held_Tn[:, : part_Tn.shape[1]])


def _summed(parts: Iterable[Tensor]) -> Tensor:
    first_TT, *others = (_products(part_Tn).double() for part_Tn in parts)
    for products_TT in others:
        first_TT += products_TT
    return first_TT.cpu()


def _products(part_Tn: Tensor) -> Tensor:
    if part_Tn.device.type != "cpu":
        return part_Tn @ part_Tn.t()
    # A CPU's matrix product is slow for a few very long rows: single inner products take less than half of its time.
    products_TT = part_Tn.new_zeros(len(part_Tn), len(part_Tn))
    for i, j in combinations_with_replacement(range(len(part_Tn)), 2):
        products_TT[i, j] = products_TT[j, i] = torch.dot(part_Tn[i], part_Tn[j])
    return products_TT


def added_up(gradients_Tn: Tensor, weights_T: Tensor) -> Tensor:
    """Return the weighted sum of gradients ``(n,)``, in the place of the first one: a new buffer would cost as much again.

    Weights that fp32 does not hold, as fairness to a task that is as good as learned may ask for, are shrunk together.
    """
    weights_T = weights_T / (weights_T.abs().max() / _HEAVIEST).clamp_min(1.0)
    total_n = gradients_Tn[0].mul_(float(weights_T[0]))
    for gradient_n, weight in zip(gradients_Tn[1:], weights_T[1:].tolist(), strict=True):
        total_n.add_(gradient_n, alpha=weight)
    return total_n


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
