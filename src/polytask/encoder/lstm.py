"""The two-layer bidirectional LSTM baseline of the course reports, as an encoder like the others.

Embeddings are trained from scratch; dropout follows each LSTM layer.
Shapes: P tokens of a batch, E width of the word embeddings, D = 2 × hidden.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from polytask.packing import Batch, EncoderOutput, Tokens, dropout

from .base import Encoder, WordEmbedding


class BiLstm(Encoder):
    """``layers`` bidirectional LSTM layers of ``hidden`` units a direction over word embeddings of ``embedding`` units.

    The pooled vector of a text is the last state of each direction in the top layer. Always computes in fp32.
    """

    has_pooler = True
    lowest_layer = 1

    def __init__(
        self, vocabulary: int, *, embedding: int = 300, hidden: int = 256, layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.width = 2 * hidden
        self.hidden = hidden
        self.dropout = dropout
        self.word = WordEmbedding(vocabulary, embedding)
        widths = [embedding] + [self.width] * (layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(width, hidden, batch_first=True, bidirectional=True) for width in widths)
        nn.init.normal_(self.word.weight, std=0.1)

    def embed(self, batch: Batch) -> Tensor:
        words_PE: Tensor = self.word(batch.ids_P)
        return words_PE

    def forward(
        self, batch: Batch, embeddings: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> EncoderOutput:
        hidden = [(self.embed(batch) if embeddings is None else embeddings).float()]
        for lstm in self.layers:
            assert isinstance(lstm, nn.LSTM)
            hidden.append(dropout(batch.recur(lstm, hidden[-1]), self.dropout, self.training))
        return EncoderOutput(batch, hidden, self._ends)

    def _ends(self, tokens: Tokens) -> Tensor:
        # Each direction has read the whole text at its own end of it: the left half at the last token.
        return torch.cat([tokens.last()[:, : self.hidden], tokens.first()[:, self.hidden :]], dim=1)

    def describe(self) -> dict[str, Any]:
        vocabulary, embedding = self.word.weight.shape
        return {
            "architecture": "lstm",
            "vocabulary": vocabulary,
            "embedding": embedding,
            "hidden": self.hidden,
            "layers": len(self.layers),
            "dropout": self.dropout,
        }

    @property
    def depth(self) -> int:
        return len(self.layers)

    def layer_of(self, name: str) -> int:
        within = re.match(r"layers\.(\d+)\.", name)
        return int(within[1]) + 1 if within else 0
