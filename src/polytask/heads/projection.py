"""A projection: layers of each text's own, between its pooling and what merges two texts. Shapes: N texts, D width."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .logits.base import checked_rate, new_hidden


class Projection(nn.Module):
    """``layers`` linear layers from ``inputs`` to ``width`` numbers, each after dropout, the activation between them.

    Nothing follows the last layer, so that a vector may point anywhere (Irgau & Lalgudi, CS224N, §4, has three
    layers and does not say).
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        layers: int = 3,
        hidden: int | None = None,
        activation: Literal["relu", "gelu"] = "relu",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.width = width
        self.dropout = checked_rate(dropout)
        self.activation = F.relu if activation == "relu" else F.gelu
        widths = [inputs, *[hidden or inputs] * (layers - 1), width]
        self.layers = nn.ModuleList(
            new_hidden(widths[n], widths[n + 1], before_activation=n < layers - 1) for n in range(layers)
        )

    def forward(self, vectors_ND: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            active_ND = self.activation(vectors_ND) if number else vectors_ND
            vectors_ND = layer(F.dropout(active_ND, self.dropout, self.training))
        return vectors_ND
