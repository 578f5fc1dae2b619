"""What a masked language model puts on an encoder: it is over tokens, so no pooling of texts comes before it.

Shapes: P tokens of a packed batch, M masked tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polytask.packing import EncoderOutput

from .logits.base import new_linear
from .pooling.base import Pooling


class EveryToken(Pooling):
    """The top layer's vector of every token, ``(P, D)``, not yet pooled."""

    def forward(self, output: EncoderOutput) -> Tensor:
        return output.layers[-1]


class LanguageHead(nn.Module):
    """Dense layer, activation and LayerNorm before an output layer that is tied to the word table (Devlin et al. 2018).

    ``decode`` is the table's side of it, which stays the encoder's; the bias of each word is the head's own.
    """

    def __init__(
        self,
        width: int,
        vocabulary: int,
        decode: Callable[[Tensor], Tensor],
        *,
        activation: Callable[[Tensor], Tensor] = F.gelu,
        epsilon: float = 1e-12,
    ) -> None:
        super().__init__()
        self.decode = decode
        self.dense = new_linear(width, width)
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.activation = activation

    def forward(self, vectors_MD: Tensor) -> Tensor:
        """Return fp32 logits ``(M, V)``."""
        transformed_MD = self.norm(self.activation(self.dense(vectors_MD)))
        return self.decode(transformed_MD) + self.bias
