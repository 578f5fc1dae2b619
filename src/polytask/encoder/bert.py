"""BERT (Devlin et al. 2018) on a stream of tokens: embeddings, post-norm layers, pooler.

Shapes: P tokens of a batch, D width, N texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from polytask.errors import CheckpointError, OptionError, RecipeError, listed
from polytask.packing import Batch, EncoderOutput, LazyLayers, Tokens, dropout
from polytask.runtime.files import disk_errors

from .attention import SelfAttention
from .base import (
    Architecture,
    Encoder,
    LayerNorm,
    Linear,
    Outline,
    WordEmbedding,
    WordTable,
    encoders,
    stated_hint,
)
from .foreign.checkpoint import Stated, open_weights, read_stated, save_named
from .foreign.pooling import pooling_hint, save_pooling
from .foreign.tokenizers import save_tokenizer

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
        # A family without types, or with one, tells texts apart by nothing but their separator.
        types_P = batch.types_P if self.token_type.num_embeddings > 1 else torch.zeros_like(batch.types_P)
        # The sum and its norm are fp32, whatever comes after: noise of 1e-5 on the words would drown in bf16.
        sum_PD = words_PD + self.position(batch.positions_P) + self.token_type(types_P)
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
        told = {"pooler": self.has_pooler, "pooling_hint": self.pooling_hint}
        return {"architecture": "bert", **told, **rates, **asdict(self.shape)}

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


@encoders.register("bert")
class BertArchitecture(Architecture):
    """BERT (Devlin et al. 2018), our own: a new one, or any checkpoint whose tensors a naming knows.

    ``dropout`` is that of the whole encoder, attention included; without it a checkpoint's own, or 0.1.
    """

    of_new = frozenset({"layers", "width", "heads", "hidden"})
    offers = frozenset({"words"})

    def __init__(
        self,
        *,
        layers: Annotated[int, Field(gt=0, le=1000, description="Layers of a new encoder.")] = 12,
        width: Annotated[int, Field(gt=0, le=100_000, description="Width of a new encoder.")] = 768,
        heads: Annotated[int, Field(gt=0, le=10_000, description="Attention heads of a new encoder.")] = 12,
        hidden: Annotated[int, Field(gt=0, le=1_000_000, description="Feed-forward width; 4 times the width.")]
        | None = None,
        dropout: Annotated[float, Field(ge=0, lt=1, description="Dropout, attention included.")] | None = None,
    ) -> None:
        if width % heads:
            raise OptionError({"heads": f"a width of {width} cannot be divided among {heads} heads."})
        self.sizes = {"width": width, "layers": layers, "heads": heads, "feed_forward": hidden or 4 * width}
        self.dropout = dropout
        parameters = layers * (4 * width**2 + 2 * width * self.sizes["feed_forward"])
        if parameters > _MOST_PARAMETERS:
            raise RecipeError(f"would have {parameters:,} parameters; wanted at most {_MOST_PARAMETERS:,}.")

    def outline(self, folder: Path | None) -> Outline:
        if folder is None:
            return Outline(self.sizes["layers"], BertShape.positions, True)
        shape = shape_of(read_stated(folder))
        return Outline(shape.layers, shape.positions, None, pooling_hint(folder))

    def new(self, vocabulary: int) -> Bert:
        rate = 0.1 if self.dropout is None else self.dropout
        shape: dict[str, Any] = {"vocabulary": vocabulary, **self.sizes}
        return Bert(BertShape(**shape), dropout=rate, attention_dropout=rate)

    def load(self, folder: Path) -> Bert:
        return load_bert(folder, dropout=self.dropout)

    @classmethod
    def rebuild(cls, description: Mapping[str, Any]) -> Bert:
        sizes = {field.name: description[field.name] for field in fields(BertShape)}
        rates = {name: description[name] for name in ("dropout", "attention_dropout", "pooler")}
        encoder = Bert(BertShape(**sizes), **rates)
        encoder.pooling_hint = stated_hint(description)
        return encoder

    @classmethod
    def save(cls, encoder: Encoder, folder: Path, tokenizer_json: str | None) -> None:
        assert isinstance(encoder, Bert)
        save_bert(encoder, folder, tokenizer_json)


def load_bert(folder: Path, *, dropout: float | None = None) -> Bert:
    """Return the BERT in a checkpoint folder, in fp32 and copied out of its files.

    ``dropout`` replaces both rates that the checkpoint's config states.
    Raises CheckpointError that names file and tensor.
    """
    stated = read_stated(folder)
    shape, keys = shape_of(stated), (stated.naming.dropout, stated.naming.attention_dropout)
    rates = [stated.rate(key) if dropout is None else dropout for key in keys]
    with open_weights(stated) as weights:
        weights.check_layers(shape.layers)
        try:
            with torch.device("meta"):  # neither time nor random numbers for weights that are about to be replaced
                encoder = Bert(shape, dropout=rates[0], attention_dropout=rates[1], pooler=weights.has("pooler"))
        except ValueError as error:
            raise CheckpointError(f"{stated.file}: {error}.") from error
        except (RuntimeError, TypeError) as error:  # what torch says of numbers that it cannot count to
            raise CheckpointError(f"{stated.file} asks for more than any memory holds.") from error
        weights.check(dict(encoder.named_parameters()))
        encoder.to_empty(device="cpu")
        weights.fill(dict(encoder.named_parameters()))
    encoder.pooling_hint = pooling_hint(folder)
    return encoder


def save_bert(encoder: Bert, folder: Path, tokenizer_json: str | None) -> None:
    """Write an encoder, and its tokenizer when given, such that ``transformers`` loads the same numbers from there."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    save_named(folder, dict(encoder.named_parameters()), encoder.describe())
    save_pooling(folder, encoder.pooling_hint, encoder.width)
    if tokenizer_json is not None:
        save_tokenizer(folder, tokenizer_json, positions=encoder.shape.positions, types=encoder.shape.types)


def shape_of(stated: Stated) -> BertShape:
    """Return the sizes that a checkpoint's config states. Raises CheckpointError for one that is no BERT's."""
    key = stated.naming.activation
    activation = stated.config.get(key, BertShape.activation)
    if activation not in ACTIVATIONS:
        raise CheckpointError(f"{stated.file}: '{key}' is {activation!r}; this encoder has {listed(ACTIVATIONS)}.")
    sizes: dict[str, Any] = {**stated.sizes()}
    return BertShape(**sizes, epsilon=stated.epsilon(BertShape.epsilon), activation=activation)


_MOST_PARAMETERS = 10_000_000_000
"""More than any machine holds that this is for."""
