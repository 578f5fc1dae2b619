"""Shapes: N texts, K masked tokens of each, V vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from polytask.data.masking import NO_LABEL, Masking
from polytask.data.tables.examples import Examples
from polytask.data.tokens import TokenColumn, Tokenizer
from polytask.encoder.base import Encoder
from polytask.encoder.foreign.checkpoint import load_language_head
from polytask.errors import CheckpointError, RecipeError
from polytask.heads.language import LanguageHead
from polytask.heads.pooling.base import Pooling
from polytask.heads.projection import Projection
from polytask.heads.task import TaskHead, TokenHead
from polytask.metrics.base import Predicted

from .base import Targets, kinds, symmetric_kl, to_numpy
from .unlabelled import Unlabelled


@kinds.register("mlm")
class MaskedLanguage(Unlabelled):
    """Which words were masked (Devlin et al. 2018, §3.1): pretraining on the texts of one's own domain.

    ``rate`` of a text's tokens are asked for. Its loss is the mean over them: batches are of texts of nearly equal
    length, so that is the mean over a batch's tokens but for rounding, and rows do not depend on each other. Logits are
    ``(N, K, V)``, labels ``(N, K)``. What is kept of them for predictions and scores is ``(N, 3)``, see ``condensed``;
    a row's prediction is its perplexity.
    """

    level = "token"
    pairs = ("single",)
    takes = frozenset()
    needs = frozenset({"words"})
    in_pieces = True
    adopts = True
    gives = frozenset({"surprise", "right", "asked"})
    metrics = ("accuracy", "perplexity")

    def __init__(self, labels: Mapping[str, str], *, rate: float = 0.15) -> None:
        super().__init__(labels)
        if not 0 < rate < 1:
            raise ValueError(f"rate is {rate:g}; it lies between 0 and 1")
        self.rate = rate

    @classmethod
    def columns(cls, text: tuple[str, ...]) -> tuple[str, ...]:
        return text[:1]

    @classmethod
    def shape(cls, rows: Examples, *, each: bool = False) -> Examples:
        return super().shape(rows, each=True)

    def targets(self, labels: Sequence[str], columns: Sequence[TokenColumn], tokenizer: Tokenizer) -> Targets:
        """Return zeros, ``(N,)``, and the masking: the labels are the tokens that it hides when a batch is packed.

        Raises RecipeError without a token to mask with.
        """
        if tokenizer.mask is None:
            raise RecipeError("'mlm' needs a tokenizer that has [MASK] or <mask>; this one has neither.")
        masking = Masking(tokenizer.mask, tokenizer.ordinary(), self.rate)
        return Targets(torch.zeros(len(columns[0]), dtype=self.dtype), masking)

    def own_head(self, encoder: Encoder, pooling: Pooling | None, projection: Projection | None) -> TokenHead:
        words = encoder.words()
        if words is None:
            raise RecipeError("'mlm' needs the word table of our own BERT.")
        vocabulary, width = words.table.weight.shape
        options: dict[str, Any] = {"activation": words.activation, "epsilon": words.epsilon}
        return TokenHead(width, LanguageHead(width, vocabulary, words.table.decode, **options))

    def adopt(self, head: TaskHead, folder: Path) -> bool:
        stored = load_language_head(folder)
        if stored is None:
            return False
        for name, parameter in head.head.named_parameters():
            if parameter.shape != stored[name].shape:
                shapes = f"{tuple(stored[name].shape)}; {tuple(parameter.shape)} is wanted"
                raise CheckpointError(f"The masked-language-model head of {folder} has a tensor of the shape {shapes}.")
            with torch.no_grad():
                parameter.copy_(stored[name])
        return True

    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        surprise_N, _, asked_N = condensed(logits_NC, labels_N).unbind(1)
        return surprise_N / asked_N.clamp_min(1)

    def divergence(self, a_NC: Tensor, b_NC: Tensor, labels_N: Tensor | None = None) -> Tensor:
        each_NK = symmetric_kl(a_NC.log_softmax(-1), b_NC.log_softmax(-1))
        if labels_N is None:
            return each_NK.mean(1)
        asked_NK = labels_N != NO_LABEL
        return each_NK.masked_fill(~asked_NK, 0.0).sum(1) / asked_NK.sum(1).clamp_min(1)

    def condense(self, logits_NC: Tensor, labels_N: Tensor | None) -> Tensor:
        """Return ``(N, 3)``: all logits of all rows would be gigabytes."""
        assert labels_N is not None
        return condensed(logits_NC, labels_N)

    def decode(self, logits_NC: Tensor) -> Predicted:
        """Return the perplexity of each text."""
        surprise_N, _, asked_N = logits_NC.double().unbind(1)
        return Predicted(values_N=to_numpy((surprise_N / asked_N.clamp_min(1)).exp()))

    def beside(self, logits_NC: Tensor, labels_N: Tensor) -> dict[str, NDArray[np.float64]]:
        """Return the counts of each text, as ``condensed`` has them."""
        return dict(zip(("surprise", "right", "asked"), to_numpy(logits_NC.T), strict=True))

    def each_loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        return logits_NC[:, 0] / logits_NC[:, 2].clamp_min(1)


def condensed(logits_NKV: Tensor, labels_NK: Tensor) -> Tensor:
    """Return, for each text, Σ −log p of its masked tokens, how many of them are right, and how many there are: ``(N, 3)``."""
    surprise_NK = F.cross_entropy(logits_NKV.movedim(2, 1), labels_NK, ignore_index=NO_LABEL, reduction="none")
    right_NK = logits_NKV.detach().argmax(2) == labels_NK
    counts = (right_NK, labels_NK != NO_LABEL)
    return torch.stack([surprise_NK.sum(1), *(count_NK.sum(1).to(surprise_NK) for count_NK in counts)], dim=1)
