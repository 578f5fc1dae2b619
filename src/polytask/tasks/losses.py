"""What a loss over classes dwells on: rare classes, doubt, hard rows. Shapes: N rows, C classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from polytask.errors import listed, nearest

ClassWeights = Literal["balanced"] | list[float] | dict[str, float]


class Emphasis:
    """Class weights, label smoothing and focal loss, on log-probabilities.

    Weights multiply a row's loss; the mean over a batch stays one over its rows. ``"balanced"`` ones are
    N / (C · rows of the class), 1 in the mean over train (King & Zeng 2001); until ``settle`` has counted them, and the
    numbers were handed to a new emphasis, there is no loss. A table of weights names labels as tables spell them or as
    predictions show them; what is both is the spelling. Smoothing and focus cannot be had together: one asks the
    model to doubt its easy rows, the other to forget them.
    """

    def __init__(
        self,
        labels: Mapping[str, str],
        class_weights: ClassWeights | None = None,
        smoothing: float = 0.0,
        focal: float = 0.0,
    ) -> None:
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing is {smoothing}; it is at least 0 and less than 1")
        if not 0 <= focal < math.inf:
            raise ValueError(f"focal is {focal}; it is a number of at least 0")
        if smoothing and focal:
            raise ValueError("'smoothing' and 'focal' pull the same rows in opposite directions; choose one")
        self.classes = list(labels)
        self.smoothing = smoothing
        self.focal = focal
        self.balanced = class_weights == "balanced"
        given = None if class_weights is None or isinstance(class_weights, str) else class_weights
        self._given_C = None if given is None else torch.tensor(_in_order(given, labels), dtype=torch.float64)
        self._weights_C = self._given_C

    @property
    def plain(self) -> bool:
        """Whether this is the ordinary loss."""
        return not (self.balanced or self.smoothing or self.focal) and self._given_C is None

    def loss(self, log_p_NC: Tensor, labels_N: Tensor) -> Tensor:
        """Return −Σ_c q_c w_c (1 − p_c)^γ log p_c of each row, ``(N,)``.

        q is 1 for the row's class, and with ε = ``smoothing`` it is 1 − ε there plus ε/C everywhere (Szegedy et al.
        2016, §7); w are the class weights, α in Lin et al. (2017), eq. 5; γ = ``focal``, eq. 4.
        """
        weights_C = self._weights(log_p_NC)
        surprise_NC = -log_p_NC if weights_C is None else -log_p_NC * weights_C
        own_N = surprise_NC.gather(1, labels_N[:, None])[:, 0]
        if self.smoothing:
            return (1.0 - self.smoothing) * own_N + self.smoothing * surprise_NC.mean(1)
        return own_N * (self.focal * _log_of_others(log_p_NC, labels_N)).exp() if self.focal else own_N

    def weigh(self, loss_N: Tensor, labels_N: Tensor) -> Tensor:
        """Return each row's loss times the weight of its class."""
        weights_C = self._weights(loss_N)
        return loss_N if weights_C is None else loss_N * weights_C[labels_N]

    def settle(self, codes: Sequence[int], shares: Sequence[float] | None = None) -> dict[str, Any]:
        """Return the options that the classes of train decide: the numbers of balanced weights.

        Rows count as often as they come up in a pass: where resampling has evened out the classes, all weights are 1.
        """
        if not self.balanced:
            return {}
        counts = np.bincount(np.asarray(codes, dtype=np.int64), weights=shares, minlength=len(self.classes)).tolist()
        absent = [name for name, count in zip(self.classes, counts, strict=True) if not count]
        if absent:
            raise ValueError(f"has no row of {listed(absent)}, so class_weights cannot be 'balanced'")
        return {"class_weights": [sum(counts) / (len(counts) * count) for count in counts]}

    def _weights(self, like: Tensor) -> Tensor | None:
        if self.balanced:
            raise ValueError("class_weights are 'balanced': they must be settled by the labels of train first")
        if self._given_C is None or self._weights_C is None:
            return None
        if self._weights_C.dtype != like.dtype or self._weights_C.device != like.device:
            self._weights_C = self._given_C.to(like)  # once for a device: a copy for each batch would make it wait
        return self._weights_C


def _log_of_others(log_p_NC: Tensor, labels_N: Tensor) -> Tensor:
    """Return log(1 − p_t), summed over the other classes: 1 − p_t itself would vanish, and its power have no gradient."""
    return log_p_NC.scatter(1, labels_N[:, None], -math.inf).logsumexp(1)


def _in_order(weights: list[float] | dict[str, float], labels: Mapping[str, str]) -> list[float]:
    values = list(weights.values()) if isinstance(weights, dict) else weights
    for value in values:
        if not 0 < value < math.inf:
            raise ValueError(f"class_weights has {value}; a weight is greater than 0")
    if not labels:  # they are yet to be read off train
        return values
    if isinstance(weights, dict):
        return _by_label(weights, labels)
    if len(weights) != len(labels):
        raise ValueError(f"class_weights has {len(weights)} numbers, and there are {len(labels)} labels")
    return weights


def _by_label(weights: dict[str, float], labels: Mapping[str, str]) -> list[float]:
    spelt = {shown: spelling for spelling, shown in labels.items()} | {spelling: spelling for spelling in labels}
    found: dict[str, float] = {}
    for given, weight in weights.items():
        if given not in spelt:
            near = nearest(given, spelt)
            raise ValueError(f"class_weights names '{given}', which is no label.{near} There are {_both(labels)}")
        if spelt[given] in found:
            raise ValueError(f"class_weights has two weights for the label '{spelt[given]}', one of them by its name")
        found[spelt[given]] = weight
    for spelling in labels:
        if spelling not in found:
            raise ValueError(f"class_weights has no weight for the label '{spelling}'; it names {listed(weights)}")
    return [found[spelling] for spelling in labels]


def _both(labels: Mapping[str, str]) -> str:
    """Return the labels as tables spell them, each with the name that predictions show, where that is another."""
    return listed([spelling if spelling == shown else f"{spelling} ({shown})" for spelling, shown in labels.items()])
