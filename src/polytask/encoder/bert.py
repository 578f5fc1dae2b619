"""BERT (Devlin et al. 2018) on a stream of tokens: embeddings, post-norm layers, pooler.

Shapes: P tokens of a batch, D width, N texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polytask.packing import Batch, EncoderOutput, LazyLayers, Tokens, dropout

from .attention import SelfAttention
from .base import Encoder, LayerNorm, Linear, WordEmbedding, WordTable

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True)
class BertShape:
    """The sizes of a BERT: ``vocabulary`` words, ``width`` D, ``layers`` of ``heads`` heads, ``positions`` tokens at most."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    positions: int = 512
    types: int = 2
    epsilon: float = 1e-12
    activation: str = "gelu"


class Embeddings(nn.Module):
    """Word + position + token-type embeddings, LayerNorm, dropout; the words are looked up apart (``Encoder.embed``)."""

    def __init__(self, shape: BertShape, dropout: float) -> None:
        super().__init__()
        self.word = WordEmbedding(shape.vocabulary, shape.width)
        self.position = nn.Embedding(shape.positions, shape.width)
        self.token_type = nn.Embedding(shape.types, shape.width)
        self.norm = LayerNorm(shape.width, eps=shape.epsilon)
        self.dropout = dropout

    def forward(self, words_PD: Tensor, batch: Batch, dtype: torch.dtype) -> Tensor:
        # The sum and its norm are fp32, whatever comes after: noise of 1e-5 on the words would drown in bf16.
        sum_PD = words_PD + self.position(batch.positions_P) + self.token_type(batch.types_P)
        return dropout(self.norm(sum_PD).to(dtype), self.dropout, self.training)


class FeedForward(nn.Module):
    """Two linear layers with an activation between, residual and LayerNorm."""

    def __init__(self, shape: BertShape, dropout: float) -> None:
        super().__init__()
        self.up = Linear(shape.width, shape.feed_forward)
        self.down = Linear(shape.feed_forward, shape.width)
        self.norm = LayerNorm(shape.width, eps=shape.epsilon)
        self.activation = ACTIVATIONS[shape.activation]
        self.dropout = dropout

    def forward(self, hidden_PD: Tensor) -> Tensor:
        # Post-norm, as published: checkpoints of it make no sense in the pre-norm order.
        grown_PD = self.down(self.activation(self.up(hidden_PD)))
        normed_PD: Tensor = self.norm(hidden_PD + dropout(grown_PD, self.dropout, self.training))
        return normed_PD


class Layer(nn.Module):
    """One post-norm transformer layer."""

    def __init__(self, shape: BertShape, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(
            shape.width, shape.heads, dropout=dropout, attention_dropout=attention_dropout, epsilon=shape.epsilon
        )
        self.feed_forward = FeedForward(shape, dropout)

    def forward(self, hidden_PD: Tensor, batch: Batch) -> Tensor:
        out_PD: Tensor = self.feed_forward(self.attention(hidden_PD, batch))
        return out_PD


class Bert(Encoder):
    """A BERT encoder. New weights are drawn from N(0, 0.02²), as Devlin et al. do; biases are 0, LayerNorms 1."""

    def __init__(
        self, shape: BertShape, *, dropout: float = 0.1, attention_dropout: float = 0.1, pooler: bool = True
    ) -> None:
        super().__init__()
        if shape.activation not in ACTIVATIONS:
            raise ValueError(f"the activation '{shape.activation}' is none of {', '.join(ACTIVATIONS)}")
        self.shape = shape
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.width = shape.width
        self.has_pooler = pooler
        self.positions = shape.positions
        self.embeddings = Embeddings(shape, dropout)
        self.layers = nn.ModuleList(Layer(shape, dropout, attention_dropout) for _ in range(shape.layers))
        self.pooler = Linear(shape.width, shape.width) if pooler else None
        self.apply(_initialise)

    def embed(self, batch: Batch) -> Tensor:
        words_PD: Tensor = self.embeddings.word(batch.ids_P)
        return words_PD

    def forward(
        self, batch: Batch, embeddings: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> EncoderOutput:
        if batch.longest > self.shape.positions:
            raise ValueError(f"a text of {batch.longest} tokens; this encoder has {self.shape.positions} positions")
        words_PD = self.embed(batch) if embeddings is None else embeddings
        hidden_PD = self.embeddings(words_PD, batch, dtype or self.compute)
        # Layers that no pooling reads, and that none above is read of, are never run.
        layers = LazyLayers(hidden_PD, [partial(layer, batch=batch) for layer in self.layers])
        return EncoderOutput(batch, layers, self._pool if self.has_pooler else None)

    def _pool(self, tokens: Tokens) -> Tensor:
        assert self.pooler is not None
        return torch.tanh(self.pooler(tokens.first()))

    def describe(self) -> dict[str, Any]:
        rates = {"dropout": self.dropout, "attention_dropout": self.attention_dropout}
        return {"architecture": "bert", "pooler": self.has_pooler, **rates, **asdict(self.shape)}

    @property
    def depth(self) -> int:
        return self.shape.layers

    def words(self) -> WordTable:
        return WordTable(self.embeddings.word, ACTIVATIONS[self.shape.activation], self.shape.epsilon)

    def pooler_parameters(self) -> list[nn.Parameter]:
        return [] if self.pooler is None else list(self.pooler.parameters())

    def layer_of(self, name: str) -> int:
        if name.startswith("embeddings."):
            return 0
        within = re.match(r"layers\.(\d+)\.", name)
        return int(within[1]) + 1 if within else self.depth + 1


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
