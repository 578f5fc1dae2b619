"""What encoder, poolings, pairs and data share: texts as one stream of real tokens, without padding.

Shapes: N texts or rows, P tokens of all texts together, L tokens of the longest text, D width.

A batch is a sequence of runs: neighbouring texts of equal length. Over a run, ``(texts * length, D)`` and
``(texts, length, D)`` are the same memory, so whatever works text by text (attention, pooling) works on views.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


@dataclass(frozen=True)
class Run:
    """``texts`` neighbouring texts of ``length`` tokens each, the first token at ``start`` of the stream."""

    start: int
    texts: int
    length: int

    @property
    def stop(self) -> int:
        return self.start + self.texts * self.length


def runs_of(lengths: Sequence[int]) -> tuple[Run, ...]:
    """Return the runs of equal length among ``lengths``, in order."""
    runs: list[Run] = []
    start = 0
    for length, group in groupby(lengths):
        run = Run(start, len(list(group)), length)
        runs.append(run)
        start = run.stop
    return tuple(runs)


@dataclass(frozen=True)
class PackedBatch:
    """One stream of the real tokens of N texts (or N pairs joined into one text).

    ``ids_P``, ``types_P``, ``positions_P`` are int64; ``order_N`` says at which place among the pooled vectors a row's
    text is, and is None when the n-th text is the n-th row's. ``asked_NK`` says where in the stream the K tokens of
    each text are that its task asks about (those that were masked), and is None for tasks of whole texts.
    """

    ids_P: Tensor
    types_P: Tensor
    positions_P: Tensor
    lengths: tuple[int, ...]
    runs: tuple[Run, ...]
    order_N: Tensor | None = None
    asked_NK: Tensor | None = None

    @classmethod
    def pack(cls, texts: Sequence[ArrayLike], types: Sequence[ArrayLike] | None = None) -> PackedBatch:
        """Pack token ids (and their token types, 0 by default), text by text, into one stream."""
        arrays = [np.asarray(text, dtype=np.int64) for text in texts]
        lengths = tuple(len(array) for array in arrays)
        if not lengths or min(lengths) == 0:
            raise ValueError("a batch needs at least one text, and each text at least one token")
        ids_P = torch.from_numpy(np.concatenate(arrays))
        positions_P = torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))
        if types is None:
            return cls(ids_P, torch.zeros_like(ids_P), positions_P, lengths, runs_of(lengths))
        types_P = torch.from_numpy(np.concatenate([np.asarray(kinds, dtype=np.int64) for kinds in types]))
        return cls(ids_P, types_P, positions_P, lengths, runs_of(lengths))

    @property
    def texts(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        return self.runs[-1].stop

    @property
    def longest(self) -> int:
        return max(self.lengths)

    def bounds(self) -> Tensor:
        """Return the ``(N + 1,)`` int32 offsets at which the texts begin and end, as variable-length kernels want them."""
        ends_N = torch.tensor(self.lengths, dtype=torch.int32, device=self.ids_P.device).cumsum(0, dtype=torch.int32)
        return torch.nn.functional.pad(ends_N, (1, 0))

    def to(self, device: torch.device) -> PackedBatch:
        """Return the batch on ``device``."""
        ids_P, types_P, positions_P = (
            part.to(device, non_blocking=True) for part in (self.ids_P, self.types_P, self.positions_P)
        )
        order_N = None if self.order_N is None else self.order_N.to(device, non_blocking=True)
        asked_NK = None if self.asked_NK is None else self.asked_NK.to(device, non_blocking=True)
        return replace(self, ids_P=ids_P, types_P=types_P, positions_P=positions_P, order_N=order_N, asked_NK=asked_NK)


@dataclass(frozen=True)
class RowBatch:
    """Rows of one task: a stream (or two, for a bi-encoder), their labels ``labels_N`` (or None) and table rows."""

    streams: tuple[PackedBatch, ...]
    labels_N: Tensor | None
    rows: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return sum(stream.tokens for stream in self.streams)

    def to(self, device: torch.device) -> RowBatch:
        """Return the batch on ``device``."""
        labels_N = None if self.labels_N is None else self.labels_N.to(device, non_blocking=True)
        return RowBatch(tuple(stream.to(device) for stream in self.streams), labels_N, self.rows)


class Tokens(ABC):
    """Vectors of the tokens of N texts, with the reductions over a text's own tokens that poolings are written in."""

    @property
    @abstractmethod
    def lengths_N(self) -> Tensor:
        """Number of real tokens of each text, as float."""

    @abstractmethod
    def first(self) -> Tensor:
        """Return each text's first token, ``(N, D)``."""

    @abstractmethod
    def sum(self, weights: Tensor | None = None) -> Tensor:
        """Return each text's (weighted) sum of tokens, ``(N, D)``; ``weights`` as given by ``softmax``."""

    @abstractmethod
    def max(self) -> Tensor:
        """Return each text's largest value in each dimension, ``(N, D)``."""

    @abstractmethod
    def dot(self, vectors_ND: Tensor) -> Tensor:
        """Return each token's inner product with its own text's vector (or with one vector ``(D,)`` for all)."""

    @abstractmethod
    def rest(self) -> Tensor:
        """Return 0 for each text's first token and 1 for those after it, in the form of ``dot``'s scores."""

    @abstractmethod
    def softmax(self, scores: Tensor) -> Tensor:
        """Return scores, one for each token as ``dot`` gives them, normalised over each text's own tokens."""


class PackedTokens(Tokens):
    """Tokens without padding, ``(P, D)``: the form for training."""

    def __init__(self, hidden_PD: Tensor, runs: tuple[Run, ...]) -> None:
        self.hidden_PD = hidden_PD
        self.runs = runs

    def _by_run(self, reduce: Callable[[Tensor], Tensor]) -> Tensor:
        views = (self.hidden_PD[run.start : run.stop].view(run.texts, run.length, -1) for run in self.runs)
        parts = [reduce(view_NLD) for view_NLD in views]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @property
    def lengths_N(self) -> Tensor:
        lengths = [float(run.length) for run in self.runs for _ in range(run.texts)]
        return torch.tensor(lengths, device=self.hidden_PD.device)

    def first(self) -> Tensor:
        return self._by_run(lambda view_NLD: view_NLD[:, 0])

    def sum(self, weights: Tensor | None = None) -> Tensor:
        if weights is not None:
            return PackedTokens(self.hidden_PD * weights.unsqueeze(1), self.runs).sum()
        return self._by_run(lambda view_NLD: view_NLD.sum(1))

    def max(self) -> Tensor:
        return self._by_run(lambda view_NLD: view_NLD.amax(1))

    def dot(self, vectors_ND: Tensor) -> Tensor:
        if vectors_ND.dim() == 1:
            return self.hidden_PD @ vectors_ND
        scores = []
        text = 0
        for run in self.runs:
            view_NLD = self.hidden_PD[run.start : run.stop].view(run.texts, run.length, -1)
            scores.append(torch.einsum("nld,nd->nl", view_NLD, vectors_ND[text : text + run.texts]).flatten())
            text += run.texts
        return torch.cat(scores)

    def rest(self) -> Tensor:
        after_P = self.hidden_PD.new_ones(len(self.hidden_PD))
        for run in self.runs:
            after_P[run.start : run.stop : run.length] = 0.0
        return after_P

    def softmax(self, scores: Tensor) -> Tensor:
        parts = [scores[run.start : run.stop].view(run.texts, run.length).softmax(1).flatten() for run in self.runs]
        return torch.cat(parts)


class PaddedTokens(Tokens):
    """Tokens with padding, ``(N, L, D)`` and a boolean mask ``(N, L)``: the form for export."""

    def __init__(self, hidden_NLD: Tensor, mask_NL: Tensor) -> None:
        self.hidden_NLD = hidden_NLD
        self.mask_NL = mask_NL

    @property
    def lengths_N(self) -> Tensor:
        return self.mask_NL.sum(1).to(torch.float32)

    def first(self) -> Tensor:
        return self.hidden_NLD[:, 0]

    def sum(self, weights: Tensor | None = None) -> Tensor:
        kept_NL = self.mask_NL.to(self.hidden_NLD.dtype)
        return torch.einsum("nld,nl->nd", self.hidden_NLD, kept_NL if weights is None else weights * kept_NL)

    def max(self) -> Tensor:
        return self.hidden_NLD.masked_fill(~self.mask_NL.unsqueeze(2), float("-inf")).amax(1)

    def dot(self, vectors_ND: Tensor) -> Tensor:
        if vectors_ND.dim() == 1:
            return self.hidden_NLD @ vectors_ND
        return torch.einsum("nld,nd->nl", self.hidden_NLD, vectors_ND)

    def rest(self) -> Tensor:
        after_L = torch.arange(self.mask_NL.shape[1], device=self.mask_NL.device) > 0
        return after_L.to(self.hidden_NLD.dtype).expand(self.mask_NL.shape)

    def softmax(self, scores: Tensor) -> Tensor:
        return scores.masked_fill(~self.mask_NL, float("-inf")).softmax(1)


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


class Pooled(Protocol):
    """Computes an encoder's own vector ``(N, D)`` for each text: of the last layer, or of the given hidden vectors."""

    def __call__(self, hidden_PD: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class EncoderOutput:
    """What an encoder makes of a batch.

    ``layers`` holds the hidden vectors, the embeddings' first and the last layer's last; ``tokens`` gives a layer its
    text boundaries; ``pooled`` computes the encoder's own vector for each text (BERT's pooler) when it is wanted.
    """

    layers: Sequence[Tensor]
    wrap: Callable[[Tensor], Tokens]
    pooled: Pooled

    def tokens(self, layer: int = -1, dtype: torch.dtype | None = None) -> Tokens:
        """Return the tokens of a layer, in another type if ``dtype`` is given (long sums want fp32)."""
        hidden = self.layers[layer]
        return self.wrap(hidden if dtype is None else hidden.to(dtype))
