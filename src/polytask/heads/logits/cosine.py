from __future__ import annotations

from torch import Tensor

from .base import Head, heads


@heads.register("cosine")
class Cosine(Head):
    """The cosine of a pair's two vectors as it is, nothing learned: for regression with a cosine ``output``."""

    gives = "cosine"
    features = ("cosine",)

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__(width, outputs)
        if (width, outputs) != (1, 1):
            raise ValueError(f"it passes one number on; it was given {width} and asked for {outputs}")

    def forward(self, vectors_ND: Tensor) -> Tensor:
        return vectors_ND
