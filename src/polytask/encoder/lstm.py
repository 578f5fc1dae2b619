"""The two-layer bidirectional LSTM baseline of the course reports, as an encoder like the others.

Embeddings are trained from scratch; dropout follows each LSTM layer.
Shapes: P tokens of a batch, E width of the word embeddings, D = 2 × hidden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from polytask.errors import UserError
from polytask.packing import Batch, EncoderOutput, Tokens, dropout

from .base import Architecture, Encoder, Outline, WordEmbedding, encoders


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


@encoders.register("lstm")
class LstmArchitecture(Architecture):
    """A bidirectional LSTM over word embeddings of its own, trained from scratch: the course reports' baseline.

    ``width`` is that of the word embeddings; the vectors of an encoder are twice ``hidden`` wide.
    """

    from_checkpoint = False
    of_new = frozenset({"layers", "width", "hidden", "dropout"})

    def __init__(
        self,
        *,
        layers: Annotated[int, Field(gt=0, le=1000, description="Layers.")] = 2,
        width: Annotated[int, Field(gt=0, le=100_000, description="Width of the word embeddings.")] = 300,
        hidden: Annotated[int, Field(gt=0, le=1_000_000, description="Units of each direction.")] = 256,
        dropout: Annotated[float, Field(ge=0, lt=1, description="Dropout after each layer.")] = 0.5,
    ) -> None:
        self.sizes = {"embedding": width, "hidden": hidden, "layers": layers}
        self.dropout = dropout

    def outline(self, folder: Path | None) -> Outline:
        return Outline(self.sizes["layers"], BiLstm.positions, BiLstm.has_pooler, lowest_layer=BiLstm.lowest_layer)

    def new(self, vocabulary: int) -> BiLstm:
        return BiLstm(vocabulary, **self.sizes, dropout=self.dropout)

    @classmethod
    def rebuild(cls, description: Mapping[str, Any]) -> BiLstm:
        return BiLstm(**{key: value for key, value in description.items() if key != "architecture"})

    @classmethod
    def save(cls, encoder: Encoder, folder: Path, tokenizer_json: str | None) -> None:
        raise UserError("An lstm encoder has no Hugging Face layout; the run folder itself is what to keep.")
