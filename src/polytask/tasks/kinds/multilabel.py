from __future__ import annotations

import ast
import json
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from polytask.metrics.base import Predicted

from .base import Kind, bernoulli_kl, kinds, to_numpy


def _list(text: str) -> list[str] | None:
    """Return the labels of a list that a program wrote as text; None where it is none."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list) and all(isinstance(label, str | int) for label in value):
            return [str(label) for label in value]
    return None


@kinds.register("multilabel")
class Multilabel(Kind):
    """Any of C labels at once: binary cross-entropy of each, averaged. A cell lists labels; ``none`` says there are none.

    A cell is ``a;b``, ``a,b``, or a list as JSON or Python writes it (``['a', 'b']``, ``[]``). With ``separator`` it is cut
    there alone; without, at semicolons if it has one, else at commas.
    """

    gives = frozenset({"labels", "probabilities"})
    metrics = ("micro_f1", "macro_f1", "exact_match")
    dtype = torch.float32

    def __init__(self, labels: Mapping[str, str], *, separator: str | None = None, none: str = "none") -> None:
        super().__init__(labels)
        if separator == "":
            raise ValueError("separator is an empty text; it stands between two labels")
        for label in labels:
            if (separator or ";") in label or label.strip() == none:
                raise ValueError(
                    f"the label '{label}' could never be read: '{separator or ';'}' separates, '{none}' is none"
                )
        self.separator = separator
        self.none = none

    @property
    def outputs(self) -> int:
        return len(self.spellings)

    def parts(self, text: str) -> list[str]:
        """Return the labels that a cell lists."""
        words = [word.strip() for word in self._cut(text.strip())]
        return [word for word in words if word and word != self.none]

    def _cut(self, text: str) -> list[str]:
        if text.startswith("[") and text.endswith("]") and (listed := _list(text)) is not None:
            return listed
        if self.separator is not None:
            return text.split(self.separator)
        if text in self.spellings:
            return [text]  # a label with a comma of its own, which the recipe gives
        return text.split(";" if ";" in text else ",")

    def encode(self, text: str) -> tuple[int, ...]:
        named = {self._code(word) for word in self.parts(text)}
        return tuple(int(code in named) for code in range(self.outputs))

    def groups(self, labels_N: Tensor, bins: int | None = None) -> NDArray[np.int64]:
        raise ValueError("a row of a multilabel task has any number of labels: there are no classes to even out")

    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits_NC, labels_N, reduction="none").mean(1)

    def divergence(self, a_NC: Tensor, b_NC: Tensor, labels_N: Tensor | None = None) -> Tensor:
        return bernoulli_kl(a_NC, b_NC)

    def truth(self, labels_N: Tensor) -> NDArray[np.int64]:
        return np.asarray(labels_N.cpu().numpy(), dtype=np.int64)

    def decode(self, logits_NC: Tensor) -> Predicted:
        return Predicted((to_numpy(logits_NC) > 0).astype(np.int64), to_numpy(logits_NC.sigmoid()))
