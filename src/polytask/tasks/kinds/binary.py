from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polytask.errors import listed
from polytask.metrics.base import Predicted
from polytask.tasks.losses import ClassWeights, Emphasis

from .base import Kind, bernoulli_kl, canonical, kinds, to_numpy

_NEGATIVE = ("0", "no", "false", "negative", "not_duplicate")


@kinds.register("binary")
class Binary(Kind):
    """One of two classes by one logit z or two: cross-entropy; the second label is the positive one.

    Two logits (Irgau & Lalgudi, CS224N, §4) mean what one does, z = z₁ − z₀; what differs is how a head is drawn and decayed.
    ``class_weights``, ``smoothing`` and ``focal`` do what they do for a classification in two classes.
    """

    def __init__(
        self,
        labels: Mapping[str, str],
        *,
        logits: Literal[1, 2] = 1,
        class_weights: ClassWeights | None = None,
        smoothing: float = 0.0,
        focal: float = 0.0,
    ) -> None:
        super().__init__(labels)
        self.logits = logits
        self.emphasis = Emphasis(labels, class_weights, smoothing, focal)
        if len(labels) > 2:
            raise ValueError(f"there are {len(labels)} labels, {listed([*labels][:12])}; a binary task has two")

    @property
    def outputs(self) -> int:
        return self.logits

    def infer(self, texts: Iterable[str]) -> list[str]:
        labels = super().infer(texts)
        if len(labels) != 2:
            raise ValueError(f"has {len(labels)} different labels, {listed(labels[:12])}; a binary task has two")
        return sorted(labels, key=lambda label: canonical(label).lower() not in _NEGATIVE)

    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        margin_N1 = _margin(logits_NC)
        if self.emphasis.plain:
            return F.binary_cross_entropy_with_logits(margin_N1[:, 0], labels_N.to(logits_NC.dtype), reduction="none")
        return self.emphasis.loss(F.logsigmoid(torch.cat([-margin_N1, margin_N1], 1)), labels_N)

    def settle(self, codes: Sequence[int], shares: Sequence[float] | None = None) -> dict[str, Any]:
        return self.emphasis.settle(codes, shares)

    def divergence(self, a_NC: Tensor, b_NC: Tensor, labels_N: Tensor | None = None) -> Tensor:
        return bernoulli_kl(_margin(a_NC), _margin(b_NC))

    def decode(self, logits_NC: Tensor) -> Predicted:
        margin_N1 = _margin(logits_NC)
        both_N2 = torch.cat([(-margin_N1).sigmoid(), margin_N1.sigmoid()], dim=1)
        return Predicted((to_numpy(margin_N1)[:, 0] > 0).astype(np.int64), to_numpy(both_N2))


def _margin(logits_NC: Tensor) -> Tensor:
    """Return the one logit that says the same, ``(N, 1)``."""
    return logits_NC if logits_NC.shape[1] == 1 else logits_NC[:, 1:] - logits_NC[:, :1]
