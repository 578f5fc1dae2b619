from __future__ import annotations

import torch
from torch import Tensor

from polytask.packing import EncoderOutput

from .base import Pooling, poolings


@poolings.register("mean")
class Mean(Pooling):
    """The mean of the last layer's token vectors (Reimers & Gurevych 2019, §3)."""

    def forward(self, output: EncoderOutput) -> Tensor:
        tokens = output.tokens(dtype=torch.float32)
        return tokens.sum() / tokens.lengths_N.unsqueeze(1)
