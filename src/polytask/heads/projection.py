"""A projection: layers of each text's own, between its pooling and what merges two texts. Shapes: N texts, D width."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .heads.base import checked_rate


class Projection(nn.Module):
    """``layers`` linear layers from ``inputs`` to ``width`` numbers, each after dropout, the activation between them.

    Nothing follows the last layer, so that a vector may point anywhere (Irgau & Lalgudi, CS224N, §4, has three
    layers and does not say). Weights are drawn as He et al. (2015) do, which keeps a vector's length through any
    number of layers; BERT's N(0, 0.02²) would shrink a small model's to nothing.
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
        self.layers = nn.ModuleList(nn.Linear(widths[n], widths[n + 1]) for n in range(layers))
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is self.layers[-1] else "relu")
            nn.init.zeros_(layer.bias)

    def forward(self, vectors_ND: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            active_ND = self.activation(vectors_ND) if number else vectors_ND
            vectors_ND = layer(F.dropout(active_ND, self.dropout, self.training))
        return vectors_ND
