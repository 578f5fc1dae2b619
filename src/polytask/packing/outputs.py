"""What an encoder makes of a batch. Shapes: N texts, P tokens of a batch, D width."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import overload

import torch
from torch import Tensor

from .batches import Batch
from .tokens import Tokens


class LazyLayers(Sequence[Tensor]):
    """Hidden vectors of layers, each computed when it or one above it is first read: what nobody reads costs nothing."""

    def __init__(self, first_PD: Tensor, layers: Iterable[Callable[[Tensor], Tensor]]) -> None:
        self._known = [first_PD]
        self._layers = list(layers)

    def __len__(self) -> int:
        return len(self._layers) + 1

    @overload
    def __getitem__(self, place: int) -> Tensor: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Tensor]: ...

    def __getitem__(self, place: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(place, slice):
            return [self[number] for number in range(len(self))[place]]
        number = range(len(self))[place]
        while len(self._known) <= number:
            self._known.append(self._layers[len(self._known) - 1](self._known[-1]))
        return self._known[number]


class EncoderOutput:
    """What an encoder makes of a ``batch``: hidden vectors ``(P, D)``, the embeddings' first and the last layer's last.

    ``pooler`` makes the encoder's own vector of each text (BERT's pooler) from a layer's tokens, when it is wanted.
    """

    def __init__(
        self, batch: Batch, layers: Sequence[Tensor], pooler: Callable[[Tokens], Tensor] | None = None
    ) -> None:
        self.batch = batch
        self.layers = layers
        self._pooler = pooler

    def tokens(self, layer: int = -1, dtype: torch.dtype | None = None) -> Tokens:
        """Return the tokens of a layer, in another type if ``dtype`` is given (long sums want fp32)."""
        hidden_PD = self.layers[layer]
        return self.wrap(hidden_PD if dtype is None else hidden_PD.to(dtype))

    def wrap(self, hidden_PD: Tensor) -> Tokens:
        """Return hidden vectors of the batch's tokens with their text boundaries."""
        return self.batch.wrap(hidden_PD)

    def pooled(self, hidden_PD: Tensor | None = None) -> Tensor:
        """Return the encoder's own vector of each text, ``(N, D)``: of the last layer, or of given hidden vectors.

        Raises ValueError where the encoder has no pooler, or one that reads its last layer alone.
        """
        if self._pooler is None:
            raise ValueError("this encoder has no pooler")
        return self._pooler(self.wrap(self.layers[-1] if hidden_PD is None else hidden_PD))
