"""Shapes: T tasks, n numbers of their gradients, c of them at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Aggregator, aggregators

_CHUNK = 1 << 20  # numbers at a time: what is held beside the gradients stays small


@aggregators.register("graddrop")
class GradDrop(Aggregator):
    """Keeps, in each coordinate, the gradients of one sign only, drawn by how much of the whole it is, and adds up.

    Chen et al. 2020, "Just Pick a Sign", alg. 1: with the purity P = ½ (1 + Σ g / Σ |g|) (eq. 1) and U uniform, positive
    parts stay where P > U and negative ones where P < U. Of what is dropped, ``leak`` stays all the same, for every task
    alike (their ℓ). One draw a coordinate, whatever the number of tasks.
    """

    def __init__(self, *, leak: float = 0.0) -> None:
        if not 0 <= leak <= 1:
            raise ValueError(f"leak is {leak:g}; it lies between 0 and 1")
        self.leak = leak

    def combine(self, gradients_Tn: Tensor, generator: torch.Generator | None = None) -> Tensor:
        parts = torch.split(gradients_Tn, _CHUNK, dim=1)
        return torch.cat([self._kept(part_Tc, generator) for part_Tc in parts]) if parts else gradients_Tn.sum(0)

    def _kept(self, part_Tc: Tensor, generator: torch.Generator | None) -> Tensor:
        total_c, size_c = part_Tc.sum(0), part_Tc.abs().sum(0)
        # A coordinate that no task moves has no sign to pick; whatever is drawn, its sum is 0.
        purity_c = 0.5 * (1.0 + total_c / size_c.clamp_min(torch.finfo(part_Tc.dtype).tiny))
        draw_c = torch.rand(part_Tc.shape[1], generator=generator).to(part_Tc)
        kept_Tc = ((purity_c > draw_c) & (part_Tc > 0)) | ((purity_c < draw_c) & (part_Tc < 0))
        return self.leak * total_c + (1.0 - self.leak) * (part_Tc * kept_Tc).sum(0)
