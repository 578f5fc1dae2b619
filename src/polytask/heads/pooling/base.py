"""The pooling contract. Shapes: N texts, D width."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from polytask.packing import EncoderOutput
from polytask.registry import Registry


class Pooling(nn.Module, ABC):
    """Turns an encoder's output into one fp32 vector ``(N, width)`` for each text.

    ``uses_summary`` says that the encoder's own pooler takes part (and so is trained).
    """

    uses_summary: bool = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @abstractmethod
    def forward(self, output: EncoderOutput) -> Tensor:
        """Return the vectors ``(N, width)``, fp32."""


poolings: Registry[Pooling] = Registry("poolings", "polytask.heads.pooling")
