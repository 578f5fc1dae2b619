from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polytask.metrics.base import Predicted
from polytask.tasks.losses import ClassWeights, Emphasis
from polytask.tasks.scales import in_order

from .base import Kind, kinds, symmetric_kl, to_numpy

Method = Literal["corn", "coral"]


_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")


@kinds.register("ordinal")
class Ordinal(Kind):
    """One of C ordered classes by C − 1 logits, one for each threshold: CORN or CORAL.

    "corn": P(y > k | y ≥ k), free of each other (Shi, Cao & Raschka 2021, eq. 4–6). "coral": P(y > k), one score at
    learned thresholds (Cao, Mirjalili & Raschka 2020, eq. 2 and 4). ``predict`` names the likeliest class, or the
    median one, which both papers take: it has as many thresholds below it as are passed with more than even odds.

    A row's loss is summed over its thresholds, and a batch's is the mean over its N rows. CORN's paper (eq. 6) divides
    by Σ|Sⱼ| instead, the number of terms in the batch, which would have a row's loss depend on the rows beside it.
    """

    gives = frozenset({"classes", "order", "probabilities"})
    metrics = ("accuracy", "macro_f1", "quadratic_kappa", "mae", "calibration_error")

    def __init__(
        self,
        labels: Mapping[str, str],
        *,
        method: Method = "corn",
        predict: Literal["likeliest", "median"] = "likeliest",
        class_weights: ClassWeights | None = None,
    ) -> None:
        super().__init__(labels)
        self.method: Method = method
        self.predict = predict
        self.emphasis = Emphasis(labels, class_weights)

    @property
    def outputs(self) -> int:
        return len(self.spellings) - 1

    @property
    def head_outputs(self) -> int:
        return 1 if self.method == "coral" else self.outputs

    def infer(self, texts: Iterable[str]) -> list[str]:
        labels = super().infer(texts)
        if not all(map(_NUMBER.fullmatch, labels)):
            order = ", ".join(json.dumps(label, ensure_ascii=False) for label in in_order(labels))
            raise ValueError(f"has labels that are words, whose order nobody can tell: give it, labels = [{order}]")
        return labels

    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        threshold_C = torch.arange(self.outputs, device=logits_NC.device)
        above_NC = (labels_N[:, None] > threshold_C).to(logits_NC.dtype)
        each_NC = F.binary_cross_entropy_with_logits(logits_NC, above_NC, reduction="none")
        asked_NC = labels_N[:, None] >= threshold_C
        loss_N = each_NC.sum(1) if self.method == "coral" else (each_NC * asked_NC).sum(1)
        return self.emphasis.weigh(loss_N, labels_N)

    def settle(self, codes: Sequence[int], shares: Sequence[float] | None = None) -> dict[str, Any]:
        return self.emphasis.settle(codes, shares)

    def divergence(self, a_NC: Tensor, b_NC: Tensor, labels_N: Tensor | None = None) -> Tensor:
        return symmetric_kl(self._log_p(a_NC), self._log_p(b_NC))

    def decode(self, logits_NC: Tensor) -> Predicted:
        probabilities_NC = to_numpy(self.class_probabilities(logits_NC))
        if self.predict == "median":
            return Predicted(np.asarray((to_numpy(self._above(logits_NC)) > 0.5).sum(1)), probabilities_NC)
        return Predicted(probabilities_NC.argmax(1), probabilities_NC)

    def class_probabilities(self, logits_NC: Tensor) -> Tensor:
        """Return ``(N, C + 1)`` class probabilities, P(y > k − 1) − P(y > k)."""
        above_NC = self._above(logits_NC)
        certain_N1 = torch.ones_like(above_NC[:, :1])
        return torch.cat([certain_N1, above_NC], 1) - torch.cat([above_NC, torch.zeros_like(certain_N1)], 1)

    def _log_p(self, logits_NC: Tensor) -> Tensor:
        return LOG_P[self.method](logits_NC.to(torch.promote_types(logits_NC.dtype, torch.float32)))

    def _above(self, logits_NC: Tensor) -> Tensor:
        return ABOVE[self.method](logits_NC.to(torch.float64).sigmoid())


# CORAL's thresholds stand in order at the optimum (its Theorem 1), not on the way there: a probability that would rise
# is held down, so that no class has less than none.
ABOVE: dict[Method, Callable[[Tensor], Tensor]] = {
    "corn": lambda conditional_NC: conditional_NC.cumprod(1),
    "coral": lambda each_NC: each_NC.cummin(1).values,
}
"""P(y > k) of every threshold, falling with k."""

_LEAST = 1e-6  # by how much P(y > k) falls at least, relative to itself, where a logarithm is taken


def _corn_log_p(logits_NC: Tensor) -> Tensor:
    """Return the log-probability of each class, ``(N, C + 1)``: past the thresholds below it, and not past its own."""
    past_NC, stopped_NC = F.logsigmoid(logits_NC), F.logsigmoid(-logits_NC)
    return F.pad(past_NC.cumsum(1), (1, 0)) + F.pad(stopped_NC, (0, 1))


def _coral_log_p(logits_NC: Tensor) -> Tensor:
    """Return log(σ(a) − σ(b)) of each class between its thresholds' logits a ≥ b, as logσ(a) + logσ(−b) + log(1 − eᵇ⁻ᵃ).

    An impossible class (a = b) keeps a probability of about 1e-6, so that the logarithm is a number.
    """
    falling_NC = logits_NC.cummin(1).values
    gaps_NC = (falling_NC[:, :-1] - falling_NC[:, 1:]).clamp_min(_LEAST)
    past_NC, stopped_NC = F.logsigmoid(falling_NC), F.logsigmoid(-falling_NC)
    return F.pad(past_NC, (1, 0)) + F.pad(stopped_NC, (0, 1)) + F.pad((-torch.expm1(-gaps_NC)).log(), (1, 1))


LOG_P: dict[Method, Callable[[Tensor], Tensor]] = {"corn": _corn_log_p, "coral": _coral_log_p}
"""Log-probabilities of the classes in a form that no small probability cancels in."""
