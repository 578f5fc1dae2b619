from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polytask.errors import listed, quoted
from polytask.metrics.base import Predicted

from .base import Kind, kinds, to_numpy

Output = Literal["standard", "raw", "sigmoid", "cosine", "shifted_cosine", "relu_cosine"]
PLAIN: tuple[Output, ...] = ("standard", "raw", "sigmoid")
OF_COSINE: tuple[Output, ...] = ("cosine", "shifted_cosine", "relu_cosine")

SHARES: dict[Output, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "cosine": lambda cosine_N: cosine_N,
    "shifted_cosine": lambda cosine_N: (cosine_N + 1) / 2,
    "relu_cosine": torch.relu,
}
"""Where in the range a score lies, as a share of it: 0 is its low end and 1 its high one."""


@kinds.register("regression")
class Regression(Kind):
    """A score in a range: squared error. ``output`` says how a head's number becomes it; predictions are clipped.

    "standard": how many times ``unit`` the score lies above ``center``. "raw": the number itself (Kumar; Xu).
    "sigmoid": over the range (Ma, Albright & Li). Of the head "cosine", over the range [0, 5]: "cosine", 5·cos (Irgau &
    Lalgudi, §4); "shifted_cosine", (cos + 1)·2.5 (Kumar, §4); "relu_cosine", 5·ReLU(cos) (Jeon, §4), which has no
    gradient where the cosine is negative. All are CS224N reports.

    Errors are squared in multiples of ``unit``, so that the loss of a model that knows nothing is about 1, like that of
    a classification, whatever the scores measure: an error in points would outweigh all other tasks of a joint step.
    ``unit = 1`` is the error in points; ``unit = 5`` over [0, 5] is that of labels scaled to [0, 1] (Ma, Albright & Li,
    §3.5). ``unit`` and ``center`` are the standard deviation and the mean over a pass of train unless given; before
    train was read, those of scores spread evenly over the range.
    """

    has_labels = False
    gives = frozenset({"values"})
    metrics = ("pearson", "spearman", "mse")
    dtype = torch.float32

    def __init__(
        self,
        labels: Mapping[str, str],
        *,
        range: tuple[float, float],
        output: Output = "standard",
        unit: float | None = None,
        center: float | None = None,
    ) -> None:
        super().__init__({})
        if labels:
            raise ValueError("a regression task has a range, not labels")
        self.low, self.high = range
        if not self.low < self.high:
            raise ValueError(f"range is {list(range)}; its first number must be the smaller one")
        if not math.isfinite(self.high - self.low):
            raise ValueError(f"range is {list(range)}; both ends must be finite")
        if unit is not None and not 0 < unit < math.inf:
            raise ValueError(f"unit is {unit:g}; it is a number above 0")
        if center is not None and not self.low <= center <= self.high:
            raise ValueError(f"center is {center:g}; it lies in the range {self.low:g} to {self.high:g}")
        if center is not None and output != "standard":
            raise ValueError(f"center goes with the output 'standard'; {output!r} has none")
        self.output = output
        self._given = {"unit": unit, "center": center}
        self.unit = (self.high - self.low) / math.sqrt(12) if unit is None else unit
        self.center = (self.low + self.high) / 2 if center is None else center

    def settle(self, codes: Sequence[float], shares: Sequence[float] | None = None) -> dict[str, float]:
        """Return ``unit`` and ``center`` of the scores of train, where they were not given.

        Scores that are all the same have no spread: the unit is then the range's.
        """
        places_N = self._places(np.asarray(codes, dtype=np.float64))
        mean = float(np.average(places_N, weights=shares))
        spread = math.sqrt(np.average((places_N - mean) ** 2, weights=shares))
        varied = np.ptp(places_N) > 0  # of equal scores, rounding may make a spread of 1e-17
        found = {"unit": spread * (self.high - self.low) if varied else self.unit}
        if self.output == "standard":
            found["center"] = self.low + mean * (self.high - self.low)
        return {name: value for name, value in found.items() if self._given[name] is None}

    def groups(self, labels_N: Tensor, bins: int | None = None) -> NDArray[np.int64]:
        """Return which of ``bins`` bins of equal width (10) each score lies in; the upper end belongs to the last.

        A score on an edge belongs to the bin above it, whatever fp32 makes of 0.7 or 0.9.
        """
        count = bins or 10
        places_N = self._places(to_numpy(labels_N))
        return np.clip(np.floor(places_N * count + 1e-4).astype(np.int64), 0, count - 1)

    @property
    def outputs(self) -> int:
        return 1

    @property
    def reads(self) -> Literal["logits", "cosine"]:
        return "cosine" if self.output in OF_COSINE else "logits"

    def instead(self) -> str:
        return f", or one of the outputs {listed(PLAIN if self.output in OF_COSINE else OF_COSINE)}"

    def encode(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{quoted(text)} is not a number") from None
        if not math.isfinite(value) or not self.low <= value <= self.high:
            raise ValueError(f"{text.strip()} is outside the range {self.low:g} to {self.high:g}")
        return value

    def scores(self, logits_NC: Tensor) -> Tensor:
        """Return scores ``(N,)`` in points of the label, not yet clipped."""
        raw_N = logits_NC[:, 0]
        if self.output == "standard":
            return self.center + self.unit * raw_N
        return raw_N if self.output == "raw" else self.low + (self.high - self.low) * SHARES[self.output](raw_N)

    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        return (self._units(logits_NC) - (labels_N - self._origin) / self.unit) ** 2

    def divergence(self, a_NC: Tensor, b_NC: Tensor, labels_N: Tensor | None = None) -> Tensor:
        return (self._units(a_NC) - self._units(b_NC)) ** 2

    def decode(self, logits_NC: Tensor) -> Predicted:
        return Predicted(values_N=to_numpy(self.scores(logits_NC).clamp(self.low, self.high)))

    @property
    def _origin(self) -> float:
        return {"standard": self.center, "raw": 0.0}.get(self.output, self.low)

    def _units(self, logits_NC: Tensor) -> Tensor:
        # How many units a score lies above the origin, which is never added first: of scores around 2,000, fp32 would
        # round away what a small noise does to them.
        raw_N = logits_NC[:, 0]
        if self.output == "standard":
            return raw_N
        share_N = raw_N if self.output == "raw" else (self.high - self.low) * SHARES[self.output](raw_N)
        return share_N / self.unit

    def _places(self, scores_N: NDArray[np.float64]) -> NDArray[np.float64]:
        return (scores_N - self.low) / (self.high - self.low)
