from __future__ import annotations

from torch import Tensor

from polytask.packing import EncoderOutput

from .base import LayerPooling, poolings


@poolings.register("max")
class Max(LayerPooling):
    """The largest value of the tokens' vectors in each dimension (Reimers & Gurevych 2019, §3)."""

    def forward(self, output: EncoderOutput) -> Tensor:
        return self.tokens(output).max()
