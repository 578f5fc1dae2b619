from __future__ import annotations

from torch import Tensor

from polytask.packing import EncoderOutput

from .base import LayerPooling, poolings


@poolings.register("mean")
class Mean(LayerPooling):
    """The mean of the tokens' vectors (Reimers & Gurevych 2019, §3)."""

    def forward(self, output: EncoderOutput) -> Tensor:
        tokens = self.tokens(output)
        return tokens.sum() / tokens.lengths_N.unsqueeze(1)
