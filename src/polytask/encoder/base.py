"""The contracts of an encoder and of its architecture, and the layers that every encoder here is made of.

Shapes: P tokens of a batch, D width, V vocabulary, N texts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polytask.errors import UserError, shown
from polytask.packing import Batch, EncoderOutput
from polytask.registry import Registry


@dataclass(frozen=True)
class WordTable:
    """An encoder's word table, and what BERT puts before an output layer that is tied to it."""

    table: WordEmbedding
    activation: Callable[[Tensor], Tensor]
    epsilon: float


class Encoder(nn.Module, ABC):
    """Texts in, vectors out.

    ``embed`` and ``forward`` are apart because adversarial noise is added between them: on the word embeddings,
    before positions, token types and LayerNorm, so that zero noise is exactly the clean pass.

    ``lowest_layer`` is the lowest of the hidden vectors that are ``width`` wide; 0 is the embeddings.
    ``pools_any_layer`` says whether ``EncoderOutput.pooled`` can be had of other hidden vectors than the last layer's.
    ``positions`` is how many tokens a text may have. ``compute`` is the type of the activations; weights that
    ``shadowed`` names may be held in that type beside their fp32 masters, all others stay fp32. ``pooling_hint`` names
    the pooling that the vectors were trained for, where a checkpoint tells (see ``foreign.pooling``).
    """

    width: int
    has_pooler: bool
    lowest_layer: int = 0
    pools_any_layer: bool = True
    positions: int = 512
    compute: torch.dtype = torch.float32
    pooling_hint: str | None = None

    @abstractmethod
    def embed(self, batch: Batch) -> Tensor:
        """Return the word embeddings of a batch, ``(P, D)``, before positions, token types and LayerNorm."""

    @abstractmethod
    def forward(
        self, batch: Batch, embeddings: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> EncoderOutput:
        """Return every layer's hidden vectors. ``embeddings`` replaces ``embed(batch)``, ``dtype`` replaces ``compute``."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what is needed to build the same encoder again, as JSON."""

    @property
    def depth(self) -> int:
        """Number of layers that can be frozen one by one, from the bottom."""
        return 0

    def pooler_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that only ``EncoderOutput.pooled`` uses."""
        return []

    def layer_of(self, name: str) -> int:
        """Return the layer (1 … ``depth``) that a parameter belongs to; 0 for the embeddings, ``depth`` + 1 above all."""
        return self.depth + 1

    def words(self) -> WordTable | None:
        """Return the word table that a language model's head can be tied to; None where there is none of our own."""
        return None

    def shadowed(self) -> list[nn.Parameter]:
        """Return the parameters that take part in matrix products in the ``compute`` type."""
        return [p for module in self.modules() if isinstance(module, Linear) for p in module.parameters()]


class Linear(nn.Linear):
    """A linear layer whose weights follow the type of its input, for passes at another precision than usual."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype is self.weight.dtype:
            return F.linear(input, self.weight, self.bias)
        return F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))


class LayerNorm(nn.LayerNorm):
    """LayerNorm with fp32 weights on activations of any type."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype is self.weight.dtype or input.device.type == "cpu":
            return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)
        # Only the CPU kernel takes bf16 activations with fp32 weights.
        return F.layer_norm(input.float(), self.normalized_shape, self.weight, self.bias, self.eps).to(input.dtype)


class WordEmbedding(nn.Embedding):
    """A word embedding table ``(V, D)`` whose gradient can be added straight into a given buffer.

    Autograd's own gradient of a table is as large as the table; a batch touches a few hundred of its rows. While
    ``gradient_VD`` is set (the training step does it), backward adds those rows there and nothing else is allocated.
    """

    gradient_VD: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        if self.gradient_VD is None or not torch.is_grad_enabled() or not self.weight.requires_grad:
            return F.embedding(input, self.weight)
        rows_PD: Tensor = _RowsOf.apply(self.weight, input, self.gradient_VD)  # type: ignore[no-untyped-call]
        return rows_PD

    def decode(self, vectors_MD: Tensor) -> Tensor:
        """Return the inner product of vectors with every word, ``(M, V)``: an output layer tied to the table."""
        if self.gradient_VD is None or not torch.is_grad_enabled() or not self.weight.requires_grad:
            return F.linear(vectors_MD, self.weight)
        scores_MV: Tensor = _Decoded.apply(vectors_MD, self.weight, self.gradient_VD)  # type: ignore[no-untyped-call]
        return scores_MV


class _RowsOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table_VD: Tensor, ids_P: Tensor, gradient_VD: Tensor) -> Tensor:
        ctx.save_for_backward(ids_P)
        ctx.gradient_VD = gradient_VD
        return table_VD.index_select(0, ids_P)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        (ids_P,) = ctx.saved_tensors
        ctx.gradient_VD.index_add_(0, ids_P, gradients[0].to(ctx.gradient_VD.dtype))
        return None, None, None


class _Decoded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors_MD: Tensor, table_VD: Tensor, gradient_VD: Tensor) -> Tensor:
        ctx.save_for_backward(vectors_MD, table_VD)
        ctx.gradient_VD = gradient_VD
        return vectors_MD @ table_VD.t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        vectors_MD, table_VD = ctx.saved_tensors
        ctx.gradient_VD.addmm_(gradients[0].t(), vectors_MD)
        return gradients[0] @ table_VD, None, None


@dataclass(frozen=True)
class Outline:
    """What can be known of an encoder before it is made: what a recipe can contradict, or take a default from.

    ``has_pooler`` is None where only the weights tell; ``pooling_hint`` is as in ``Encoder``.
    """

    depth: int
    positions: int
    has_pooler: bool | None
    pooling_hint: str | None = None
    lowest_layer: int = 0
    pools_any_layer: bool = True

    @classmethod
    def of(cls, encoder: Encoder) -> Outline:
        told = (encoder.depth, encoder.positions, encoder.has_pooler, encoder.pooling_hint)
        return cls(*told, encoder.lowest_layer, encoder.pools_any_layer)


class Architecture(ABC):
    """A sort of encoder: makes new ones, reads them from checkpoint folders, builds them again, saves them.

    Its keyword-only constructor arguments are the options that it takes in a recipe's ``[encoder]``. The constructor
    raises OptionError, RecipeError or ValueError for options that contradict each other, before anything is built.

    - ``from_scratch``: it can draw a new encoder; ``from_checkpoint``: it can read one from a folder;
    - ``of_new``: options that a checkpoint settles itself, and that are for new encoders alone;
    - ``offers``: what its encoders have that some kinds of task need, such as "words".
    """

    from_scratch: ClassVar[bool] = True
    from_checkpoint: ClassVar[bool] = True
    of_new: ClassVar[frozenset[str]] = frozenset()
    offers: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def outline(self, folder: Path | None) -> Outline | None:
        """Return the outline of a new encoder, or of a checkpoint's; None where it cannot be had without the weights."""

    def new(self, vocabulary: int) -> Encoder:
        """Return an encoder whose weights are drawn from torch's default generator. UserError if it draws none."""
        raise UserError(f"{type(self).__name__} reads checkpoints; it draws no new encoder.")

    def load(self, folder: Path) -> Encoder:
        """Return the encoder in a checkpoint folder, fp32. Raises CheckpointError that names file and tensor.

        UserError if it reads none.
        """
        raise UserError(f"{type(self).__name__} draws new encoders; it reads no checkpoint.")

    @classmethod
    @abstractmethod
    def rebuild(cls, description: Mapping[str, Any]) -> Encoder:
        """Return the encoder that ``Encoder.describe`` described, its weights yet to be filled in.

        A stranger may have written the description: raises ValueError, TypeError, KeyError, AttributeError, RuntimeError
        or CheckpointError for what is none.
        """

    @classmethod
    @abstractmethod
    def save(cls, encoder: Encoder, folder: Path, tokenizer_json: str | None) -> None:
        """Write an encoder of this sort, and its tokenizer when given, in Hugging Face layout.

        Raises UserError where that layout has none.
        """

    def tokenizer_json(self, folder: Path) -> str | None:
        """Return a checkpoint's tokenizer where polytask cannot read it by itself, as ``tokenizer.json`` has it."""
        return None


encoders: Registry[Architecture] = Registry("encoders", "polytask.encoder")


def stated_hint(description: Mapping[str, Any]) -> str | None:
    """Return the pooling hint that a description states. Raises ValueError for one that is no name."""
    hint = description.get("pooling_hint")
    if hint is not None and not isinstance(hint, str):
        raise ValueError(f"'pooling_hint' is {shown(hint)}; wanted a text")
    return hint
