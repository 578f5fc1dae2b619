from __future__ import annotations

from torch import Tensor

from polytask.packing import EncoderOutput

from .base import Pooling, poolings


@poolings.register("max")
class Max(Pooling):
    """The largest value of the last layer's token vectors in each dimension (Reimers & Gurevych 2019, §3)."""

    def forward(self, output: EncoderOutput) -> Tensor:
        return output.tokens().max().float()
