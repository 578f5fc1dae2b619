"""Vectors of tokens with their text boundaries, and the reductions over a text's own tokens.

Shapes: N texts, P tokens of a batch, L tokens of the longest text (or of each text in a run), D width.

A stream of tokens is a sequence of runs: neighbouring texts of equal length. Over a run, ``(texts * length, D)`` and
``(texts, length, D)`` are the same memory, so whatever works text by text (attention, pooling) works on views.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
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
    def last(self) -> Tensor:
        """Return each text's last token, ``(N, D)``."""

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

    def last(self) -> Tensor:
        return self._by_run(lambda view_NLD: view_NLD[:, -1])

    def sum(self, weights: Tensor | None = None) -> Tensor:
        if weights is not None:
            return PackedTokens(self.hidden_PD * weights.unsqueeze(1), self.runs).sum()
        return self._by_run(lambda view_NLD: view_NLD.sum(1))

    def max(self) -> Tensor:
        # amax shares a gradient among equal values; max would give all of it to whichever it met first.
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

    def last(self) -> Tensor:
        ends_N11 = (self.mask_NL.sum(1) - 1)[:, None, None]
        return self.hidden_NLD.gather(1, ends_N11.expand(-1, 1, self.hidden_NLD.shape[2])).squeeze(1)

    def sum(self, weights: Tensor | None = None) -> Tensor:
        kept_NL = self.mask_NL.to(self.hidden_NLD.dtype)
        # A product, not a selection by the mask: the shapes must not depend on what the texts are.
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
