from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from polytask import metrics
from polytask.errors import quoted

from .base import Decoded, Kind, kinds, to_numpy


@kinds.register("regression")
class Regression(Kind):
    """A score in a range: squared error. ``output`` is "raw" or "sigmoid" over the range; predictions are clipped to it."""

    has_labels = False
    first_metric = "pearson"
    dtype = torch.float32

    def __init__(
        self, labels: Mapping[str, str], *, range: tuple[float, float], output: Literal["raw", "sigmoid"] = "raw"
    ) -> None:
        super().__init__({})
        if labels:
            raise ValueError("a regression task has a range, not labels")
        self.low, self.high = range
        if not self.low < self.high:
            raise ValueError(f"range is {list(range)}; its first number must be the smaller one")
        self.output = output

    @property
    def outputs(self) -> int:
        return 1

    def encode(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{quoted(text)} is not a number") from None
        if not math.isfinite(value) or not self.low <= value <= self.high:
            raise ValueError(f"{text.strip()} is outside the range {self.low:g} to {self.high:g}")
        return value

    def scores(self, logits_NC: Tensor) -> Tensor:
        """Return scores ``(N,)`` in units of the label, not yet clipped."""
        raw_N = logits_NC[:, 0]
        return raw_N if self.output == "raw" else self.low + (self.high - self.low) * raw_N.sigmoid()

    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        return (self.scores(logits_NC) - labels_N) ** 2

    def divergence(self, a_NC: Tensor, b_NC: Tensor) -> Tensor:
        return (self.scores(a_NC) - self.scores(b_NC)) ** 2

    def decode(self, logits_NC: Tensor) -> Decoded:
        return Decoded([float(score) for score in to_numpy(self._clipped(logits_NC))])

    def score(self, logits_NC: Tensor, labels_N: Tensor) -> dict[str, float]:
        predicted_N, true_N = to_numpy(self._clipped(logits_NC)), to_numpy(labels_N)
        return {
            "pearson": metrics.pearson(predicted_N, true_N),
            "spearman": metrics.spearman(predicted_N, true_N),
            "mse": metrics.mse(predicted_N, true_N),
        }

    def _clipped(self, logits_NC: Tensor) -> Tensor:
        return self.scores(logits_NC).clamp(self.low, self.high)
