"""The contract of a task kind. Shapes: N rows, C logits."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polytask.data.tables.examples import Examples
from polytask.data.tables.reshape import each_text
from polytask.data.tokens import TokenColumn, Tokenizer
from polytask.encoder.base import Encoder
from polytask.errors import listed, nearest, quoted
from polytask.heads.pooling.base import Pooling
from polytask.heads.projection import Projection
from polytask.heads.task import TaskHead
from polytask.metrics.base import Predicted
from polytask.packing import RowBatch
from polytask.registry import Registry
from polytask.runtime.keys import Key

Label = int | float | tuple[int, ...]

PairMode = Literal["single", "cross", "bi"]
"""One text; two in one input; two encoded apart."""

EVERY_SETTING = frozenset(
    ["label", "labels", "resample", "phrases", "pooling", "projection", "pair", "symmetric", "head"]
)
"""The settings of a task that some kinds do not take."""


@dataclass(frozen=True)
class Targets:
    """What the rows of a task are to be answered with: labels ``(N, …)``, or None where a table has none.

    ``ask``, for kinds of token level: which tokens of a packed batch are asked about, and with which labels; it may hide
    them.
    """

    labels_N: Tensor | None
    ask: Callable[[RowBatch, Key], RowBatch] | None = None


class Kind(ABC):
    """What the labels of a task are.

    ``labels`` maps a label as tables spell it to the name that predictions show, in the order of the classes.

    What others need to know of a kind before they build anything, it says itself:

    - ``level``: whether it looks at whole texts or at their single tokens;
    - ``pairs``: the ways in which it can read two texts, and "single" for one;
    - ``takes``: which settings of a task mean something to it (those that every kind takes are not named);
    - ``has_labels``: its labels are the classes of a table's label column;
    - ``needs``: what an encoder must have for it, such as "words", a word table of our own;
    - ``in_batch``: a row's loss depends on the other rows of its batch, which then must not be split;
    - ``in_pieces``: it trains on long texts whole, in pieces that fit; others read what fits of them;
    - ``adopts``: a checkpoint may hold its head (see ``adopt``);
    - ``gives``: what metrics can read of its predictions: "classes" (one a row), their "order", "labels" (any number a
      row), "probabilities" of either, "values", and its columns by name (see ``beside``);
    - ``metrics``: what a task of it is scored by unless its recipe says otherwise; checkpoints are judged by the first.
    """

    level: ClassVar[Literal["text", "token"]] = "text"
    pairs: ClassVar[tuple[PairMode, ...]] = ("single", "cross", "bi")
    takes: ClassVar[frozenset[str]] = EVERY_SETTING
    has_labels: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()
    in_batch: ClassVar[bool] = False
    in_pieces: ClassVar[bool] = False
    adopts: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"classes", "probabilities"})
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "calibration_error")
    dtype: ClassVar[torch.dtype] = torch.int64

    def __init__(self, labels: Mapping[str, str]) -> None:
        if len(labels) == 1:
            raise ValueError(f"there is only the label {listed(labels)}; at least two are needed")
        self.labels = dict(labels)
        self.spellings = list(labels)
        self.names = list(labels.values())
        self._codes = {spelling: code for code, spelling in enumerate(self.spellings)}

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of logits C."""

    @property
    def head_outputs(self) -> int:
        """Numbers that the head gives: C, or 1 where the logits are one score at C thresholds."""
        return self.outputs

    @property
    def reads(self) -> Literal["logits", "cosine"]:
        """What the numbers must be that the head gives."""
        return "logits"

    def instead(self) -> str:
        """Return how to make the kind read the other sort of numbers, as the end of a sentence; nothing if it cannot."""
        return ""

    @classmethod
    def columns(cls, text: tuple[str, ...]) -> tuple[str, ...]:
        """Return the columns of one input, of the one or two that a task names."""
        return text

    @classmethod
    def shape(cls, rows: Examples, *, each: bool = False) -> Examples:
        """Return a table's rows as the kind reads them. ``each``: every text of a pair as a row of its own."""
        rows = rows if "label" in cls.takes else replace(rows, labels=[])
        return each_text(rows) if each else rows

    def targets(self, labels: Sequence[str], columns: Sequence[TokenColumn], tokenizer: Tokenizer) -> Targets:
        """Return what rows are to be answered with. ``labels`` are as the table spells them; none if it has none."""
        return Targets(self.collate([self.encode(label) for label in labels]) if labels else None)

    def own_head(self, encoder: Encoder, pooling: Pooling | None, projection: Projection | None) -> TaskHead | None:
        """Return the head of a kind that brings its own, freshly drawn; None for one that takes the recipe's.

        ``pooling`` and ``projection`` are the recipe's, None for a kind that does not take them.
        """
        return None

    def adopt(self, head: TaskHead, folder: Path) -> bool:
        """Fill a head of the kind's own with the weights that a checkpoint folder has for it; say whether it has any.

        Raises CheckpointError for weights that do not fit.
        """
        return False

    @abstractmethod
    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        """Return each row's loss, ``(N,)``."""

    @abstractmethod
    def divergence(self, a_NC: Tensor, b_NC: Tensor, labels_N: Tensor | None = None) -> Tensor:
        """Return how far two predictions of each row are apart, ``(N,)``: symmetric, 0 exactly when they are equal.

        ``labels_N`` tells those kinds that ask for a part of the logits alone which part that is; without, it is all.
        """

    def condense(self, logits_NC: Tensor, labels_N: Tensor | None) -> Tensor:
        """Return what is kept of a batch's logits for predictions and scores: all of them."""
        return logits_NC

    @abstractmethod
    def decode(self, logits_NC: Tensor) -> Predicted:
        """Return predictions from what is kept of the logits."""

    def beside(self, logits_NC: Tensor, labels_N: Tensor) -> dict[str, NDArray[np.float64]]:
        """Return what metrics read beside the predictions: columns of a number for each of a table's rows, by name."""
        return {}

    def truth(self, labels_N: Tensor) -> NDArray[Any] | None:
        """Return what predictions are scored against, in the numbers that ``decode`` has; None where nothing is."""
        return to_numpy(labels_N) if labels_N.is_floating_point() else np.asarray(labels_N.cpu().numpy())

    def each_loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor | None:
        """Return each row's loss ``(N,)`` from what is kept of the logits; None where a row alone has none."""
        return None if self.in_batch else self.loss(logits_NC, labels_N)

    def encode(self, text: str) -> Label:
        """Return the code of a label as a table spells it. Raises ValueError that says what there is."""
        return self._code(text)

    def parts(self, text: str) -> list[str]:
        """Return the labels that a cell names."""
        return [text]

    def infer(self, texts: Iterable[str]) -> list[str]:
        """Return the labels that occur, numbers in numeric order. Raises ValueError when they do not fit the kind."""
        labels = sorted({canonical(part) for text in texts for part in self.parts(text)}, key=_numbers_first)
        if len(labels) < 2:
            raise ValueError(f"has {len(labels)} different label(s), {listed(labels)}; at least two are needed")
        if len(labels) > 1000:
            raise ValueError(f"has {len(labels)} different labels, such as {labels[0]!r}; is it a regression task?")
        return labels

    def strata(self, text: str) -> Sequence[str]:
        """Return what a label counts as where rows are held out: the classes that it names, each to have its share."""
        return [canonical(part) for part in self.parts(text)] if self.labels else []

    def settle(self, codes: Sequence[Any], shares: Sequence[float] | None = None) -> dict[str, Any]:
        """Return the options that the labels of train decide, as numbers. Raises ValueError when they cannot.

        ``shares`` says how often each row comes up in a pass, relative to the others; equally often by default.
        """
        return {}

    def groups(self, labels_N: Tensor, bins: int | None = None) -> NDArray[np.int64]:
        """Return the group of each row that resampling evens out: its class, or one of ``bins`` of a range.

        Raises ValueError when the kind has no such groups.
        """
        if bins is not None:
            raise ValueError("'bins' cut the range of a regression task; this kind has classes")
        return np.asarray(labels_N.numpy(), dtype=np.int64)

    def collate(self, codes: Sequence[Any]) -> Tensor:
        """Return codes as a tensor of labels."""
        return torch.tensor(codes, dtype=self.dtype)

    def _code(self, text: str) -> int:
        for spelling in (text, text.strip(), canonical(text)):
            if spelling in self._codes:
                return self._codes[spelling]
        for spelling, code in self._codes.items():
            if canonical(spelling) == canonical(text):
                return code
        shown = self.spellings if len(self.spellings) <= 12 else [*self.spellings[:11], "…"]
        raise ValueError(f"{quoted(text)} is not one of the labels {listed(shown)}.{nearest(text, self.spellings)}")


kinds: Registry[Kind] = Registry("kinds", "polytask.tasks.kinds", trial=({},))


def canonical(text: str) -> str:
    """Return a label as it is compared: without surrounding blanks, and by what programs do to labels on their way.

    Whole numbers that became floats lose their fraction (``1.0`` is ``1``), and booleans are lower-case (``True`` is
    ``true``). Nothing else is taken for another spelling: ``01``, ``1`` and ``001`` are three labels, ``1e2`` is no ``100``.
    """
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    return text.partition(".")[0] if _WHOLE.fullmatch(text) else text


_WHOLE = re.compile(r"0\.0+|-?[1-9][0-9]*\.0+")


def symmetric_kl(log_p_NC: Tensor, log_q_NC: Tensor) -> Tensor:
    """Return Σ(p − q)(log p − log q), ``(N,)``: KL(p‖q) + KL(q‖p) in a form that does not cancel when p ≈ q."""
    return ((log_p_NC.exp() - log_q_NC.exp()) * (log_p_NC - log_q_NC)).sum(-1)


def bernoulli_kl(a_NC: Tensor, b_NC: Tensor) -> Tensor:
    """Return the symmetric KL of Bernoulli variables with logits a and b, summed over C: Σ(σ(a) − σ(b))(a − b)."""
    return ((a_NC.sigmoid() - b_NC.sigmoid()) * (a_NC - b_NC)).sum(-1)


def to_numpy(tensor: Tensor) -> NDArray[np.float64]:
    """Return a tensor as float64 on the CPU."""
    return np.asarray(tensor.detach().to("cpu", torch.float64).numpy())


def _numbers_first(label: str) -> tuple[int, float, str]:
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    # "nan" and "inf" are words here: the one would make any order depend on where it stood before.
    return (0, number, label) if math.isfinite(number) else (1, 0.0, label)
