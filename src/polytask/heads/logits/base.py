"""The head contract. Shapes: N rows, C logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from torch import Tensor, nn

from polytask.registry import Registry


class Head(nn.Module, ABC):
    """Turns vectors ``(N, width)`` into logits ``(N, outputs)``, in fp32.

    ``gives`` says what the numbers are, and a kind of task says what it ``takes``. ``features`` names the pair features
    that a head must be given, when it cannot read just any vector.
    """

    gives: ClassVar[Literal["logits", "cosine"]] = "logits"
    features: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.width = width
        self.outputs = outputs

    @abstractmethod
    def forward(self, vectors_ND: Tensor) -> Tensor:
        """Return the logits ``(N, C)``."""


heads: Registry[Head] = Registry("heads", "polytask.heads.logits", trial=(1, 1))


def checked_rate(dropout: float) -> float:
    """Return a rate of dropout. Raises ValueError when it is none."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout:g}; it is at least 0 and below 1")
    return dropout


def new_linear(width: int, outputs: int) -> nn.Linear:
    """Return a linear layer as BERT initialises its own: N(0, 0.02²), biases 0."""
    layer = nn.Linear(width, outputs)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def new_hidden(width: int, outputs: int, *, before_activation: bool = True) -> nn.Linear:
    """Return a linear layer as He et al. (2015) draw one, biases 0: it keeps a vector's length, and so do many of them.

    BERT's N(0, 0.02²) would shrink a small model's vectors to nothing within a few layers.
    """
    layer = nn.Linear(width, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if before_activation else "linear")
    nn.init.zeros_(layer.bias)
    return layer
