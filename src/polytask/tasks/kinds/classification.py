from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from polytask import metrics

from .base import Decoded, Kind, kinds, symmetric_kl, to_numpy


@kinds.register("classification")
class Classification(Kind):
    """One of C classes: cross-entropy over a softmax."""

    @property
    def outputs(self) -> int:
        return len(self.spellings)

    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        return F.cross_entropy(logits_NC, labels_N, reduction="none")

    def divergence(self, a_NC: Tensor, b_NC: Tensor) -> Tensor:
        return symmetric_kl(a_NC.log_softmax(-1), b_NC.log_softmax(-1))

    def decode(self, logits_NC: Tensor) -> Decoded:
        probabilities_NC = to_numpy(logits_NC.softmax(-1))
        return Decoded([self.names[code] for code in probabilities_NC.argmax(1)], probabilities_NC)

    def score(self, logits_NC: Tensor, labels_N: Tensor) -> dict[str, float]:
        probabilities_NC, true_N = to_numpy(logits_NC.softmax(-1)), labels_N.cpu().numpy()
        predicted_N = probabilities_NC.argmax(1)
        return {
            "accuracy": metrics.accuracy(predicted_N, true_N),
            "macro_f1": metrics.macro_f1(predicted_N, true_N),
            "calibration_error": metrics.calibration_error(probabilities_NC, true_N),
        }
