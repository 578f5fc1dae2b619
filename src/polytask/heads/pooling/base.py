"""The pooling contract. Shapes: N texts, P tokens of a packed batch, D width."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from polytask.packing import EncoderOutput, Tokens
from polytask.registry import Registry

Layers = Literal["last", "all"] | list[int]
"""The last layer, all of them, or some by their numbers: 0 is the embeddings, 1 the lowest layer."""


class Pooling(nn.Module, ABC):
    """Turns an encoder's output into one fp32 vector ``(N, width)`` for each text.

    ``uses_pooler`` says that the encoder's own pooler takes part (and so is trained).
    """

    uses_pooler: bool = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @abstractmethod
    def forward(self, output: EncoderOutput) -> Tensor:
        """Return the vectors ``(N, width)``, fp32."""

    def reads(self, depth: int) -> list[int]:
        """Return the layers that are read of an encoder of ``depth`` layers; 0 is the embeddings.

        What lies above the highest gets no gradient. Raises ValueError for a layer that the encoder lacks.
        """
        return [depth]


class LayerPooling(Pooling):
    """A pooling over ``layers``: where there are several, each token's vector is its mean over them.

    Jeon (CS224N report, §5.4) averages the hidden states: read as those of all layers, that is ``layers = "all"``; read
    as those of all tokens, it is the pooling "mean".
    """

    def __init__(self, width: int, *, layers: Layers = "last") -> None:
        super().__init__(width)
        self.layers = layers if isinstance(layers, str) else _checked(layers)

    def chosen(self, output: EncoderOutput) -> Sequence[Tensor]:
        """Return the hidden vectors of the chosen layers, ``(P, D)`` each."""
        if isinstance(self.layers, list):
            return [output.layers[number] for number in self.layers]
        return output.layers[-1:] if self.layers == "last" else output.layers[1:]

    def tokens(self, output: EncoderOutput) -> Tokens:
        """Return the tokens' means over the chosen layers, fp32."""
        return output.wrap(mean_of(self.chosen(output)))

    def reads(self, depth: int) -> list[int]:
        if not isinstance(self.layers, list):
            return [depth] if self.layers == "last" or depth == 0 else list(range(1, depth + 1))
        if max(self.layers) > depth:
            raise ValueError(f"layers has {max(self.layers)}; the encoder has {depth} (0 is the embeddings)")
        return self.layers


poolings: Registry[Pooling] = Registry("poolings", "polytask.heads.pooling", trial=(2,))


def mean_of(parts: Sequence[Tensor]) -> Tensor:
    """Return the mean of tensors of one shape, summed in fp32 one by one: a stack would hold all of them twice."""
    total = parts[0].float()
    for part in parts[1:]:
        total = total + part
    return total if len(parts) == 1 else total / len(parts)


def _checked(layers: list[int]) -> list[int]:
    if not layers or len(set(layers)) < len(layers) or min(layers) < 0:
        raise ValueError(f"layers is {layers}; it lists different layers, counted from 0, the embeddings")
    return layers
