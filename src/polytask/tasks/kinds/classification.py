from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from polytask.metrics.base import Predicted
from polytask.tasks.losses import ClassWeights, Emphasis

from .base import Kind, kinds, symmetric_kl, to_numpy


@kinds.register("classification")
class Classification(Kind):
    """One of C classes: cross-entropy over a softmax; ``class_weights``, ``smoothing`` or ``focal`` change its emphasis."""

    def __init__(
        self,
        labels: Mapping[str, str],
        *,
        class_weights: ClassWeights | None = None,
        smoothing: float = 0.0,
        focal: float = 0.0,
    ) -> None:
        super().__init__(labels)
        self.emphasis = Emphasis(labels, class_weights, smoothing, focal)

    @property
    def outputs(self) -> int:
        return len(self.spellings)

    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        if self.emphasis.plain:
            return F.cross_entropy(logits_NC, labels_N, reduction="none")
        return self.emphasis.loss(logits_NC.log_softmax(-1), labels_N)

    def settle(self, codes: Sequence[int], shares: Sequence[float] | None = None) -> dict[str, Any]:
        return self.emphasis.settle(codes, shares)

    def divergence(self, a_NC: Tensor, b_NC: Tensor, labels_N: Tensor | None = None) -> Tensor:
        return symmetric_kl(a_NC.log_softmax(-1), b_NC.log_softmax(-1))

    def decode(self, logits_NC: Tensor) -> Predicted:
        probabilities_NC = to_numpy(logits_NC.softmax(-1))
        return Predicted(probabilities_NC.argmax(1), probabilities_NC)
