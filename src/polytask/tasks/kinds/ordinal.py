from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polytask import metrics
from polytask.tasks.losses import ClassWeights, Emphasis

from .base import Decoded, Kind, bernoulli_kl, kinds, to_numpy


@kinds.register("ordinal")
class Ordinal(Kind):
    """One of C ordered classes by C − 1 conditional logits, P(y > k | y ≥ k) (CORN; Shi, Cao & Raschka 2021, eq. 4–6)."""

    first_metric = "accuracy"

    def __init__(self, labels: Mapping[str, str], *, class_weights: ClassWeights | None = None) -> None:
        super().__init__(labels)
        self.emphasis = Emphasis(self.spellings, class_weights)

    @property
    def outputs(self) -> int:
        return len(self.spellings) - 1

    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        threshold_C = torch.arange(self.outputs, device=logits_NC.device)
        asked_NC = labels_N[:, None] >= threshold_C
        above_NC = (labels_N[:, None] > threshold_C).to(logits_NC.dtype)
        each_NC = F.binary_cross_entropy_with_logits(logits_NC, above_NC, reduction="none")
        return self.emphasis.weigh((each_NC * asked_NC).sum(1), labels_N)

    def settle(self, codes: Sequence[int]) -> dict[str, Any]:
        return self.emphasis.settle(codes)

    def divergence(self, a_NC: Tensor, b_NC: Tensor) -> Tensor:
        return bernoulli_kl(a_NC, b_NC)

    def decode(self, logits_NC: Tensor) -> Decoded:
        probabilities_NC = to_numpy(class_probabilities(logits_NC))
        return Decoded([self.names[code] for code in probabilities_NC.argmax(1)], probabilities_NC)

    def score(self, logits_NC: Tensor, labels_N: Tensor) -> dict[str, float]:
        probabilities_NC, true_N = to_numpy(class_probabilities(logits_NC)), labels_N.cpu().numpy()
        predicted_N = probabilities_NC.argmax(1)
        return {
            "accuracy": metrics.accuracy(predicted_N, true_N),
            "macro_f1": metrics.macro_f1(predicted_N, true_N),
            "quadratic_kappa": metrics.quadratic_kappa(predicted_N, true_N, len(self.spellings)),
            "mae": metrics.mae(predicted_N, true_N),
            "calibration_error": metrics.calibration_error(probabilities_NC, true_N),
        }


def class_probabilities(logits_NC: Tensor) -> Tensor:
    """Return ``(N, C + 1)`` class probabilities: P(y > k) is the product of the conditional ones up to k."""
    above_NC = logits_NC.to(torch.float64).sigmoid().cumprod(1)
    certain_N1 = torch.ones_like(above_NC[:, :1])
    return torch.cat([certain_N1, above_NC], 1) - torch.cat([above_NC, torch.zeros_like(certain_N1)], 1)
