from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from polytask.data.tables.examples import Examples
from polytask.data.tables.reshape import each_text, twice
from polytask.data.tokens import TokenColumn, Tokenizer
from polytask.encoder.base import Encoder
from polytask.heads.pairs.base import Merge, pair_features
from polytask.heads.pooling.base import Pooling
from polytask.heads.projection import Projection
from polytask.heads.task import TaskHead
from polytask.metrics.base import Predicted

from .base import Targets, kinds, symmetric_kl, to_numpy
from .unlabelled import Unlabelled

_ROWS = 1024  # of a score matrix at once


@kinds.register("ranking")
class Ranking(Unlabelled):
    """Pairs of texts that belong together, told from the batch's other pairs: multiple negatives ranking, SimCSE.

    Henderson et al. (2017, §4.4) with the cosines and the temperature τ of Gao et al. (2021, eq. 1 and 5): for the
    first text of pair i the logits are cos(u_i, v_j) / τ over all j of the batch, and v_i is the right one.
    ``symmetric`` ranks the first texts for each second one too, and takes the mean. There is no head: the "logits" of
    a row are its two vectors side by side, ``(N, 2D)``, and its label says which texts they come from, ``(N, 2)``, for
    a pair that shares a text with pair i is no negative of it.
    """

    pairs = ("bi",)
    in_batch = True
    gives = frozenset({"rank"})
    metrics = ("mrr", "accuracy")

    def __init__(self, labels: Mapping[str, str], *, temperature: float = 0.05, symmetric: bool = False) -> None:
        super().__init__(labels)
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature:g}; it is above 0")
        self.temperature = temperature
        self.symmetric = symmetric

    @classmethod
    def columns(cls, text: tuple[str, ...]) -> tuple[str, ...]:
        """Return two columns, the same one twice if there is but one."""
        return text * 2 if len(text) == 1 else text

    @classmethod
    def shape(cls, rows: Examples, *, each: bool = False) -> Examples:
        """Return pairs: single texts are pairs with themselves."""
        rows = super().shape(rows, each=each)
        return twice(each_text(rows)) if len(rows.texts) == 1 else rows

    def targets(self, labels: Sequence[str], columns: Sequence[TokenColumn], tokenizer: Tokenizer) -> Targets:
        """Return a number for each text, ``(N, 2)``: equal exactly for texts of equal tokens."""
        numbers: dict[bytes, int] = {}
        rows = range(len(columns[0]))
        named = [[numbers.setdefault(column[row].tobytes(), len(numbers)) for column in columns] for row in rows]
        return Targets(torch.tensor(named, dtype=self.dtype).reshape(len(named), len(columns)))

    def own_head(self, encoder: Encoder, pooling: Pooling | None, projection: Projection | None) -> TaskHead:
        """Return a head without weights: the two texts' vectors side by side."""
        assert pooling is not None
        width = pooling.width if projection is None else projection.width
        both = Merge([pair_features.create(name, width) for name in ("u", "v")])
        return TaskHead(pooling, nn.Identity(), both, projection=projection)

    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        return -torch.stack([log_p_NN.diagonal() for log_p_NN in self._told(logits_NC, labels_N)]).mean(0)

    def divergence(self, a_NC: Tensor, b_NC: Tensor, labels_N: Tensor | None = None) -> Tensor:
        sides = zip(self._told(a_NC, labels_N), self._told(b_NC, labels_N), strict=True)
        return torch.stack([symmetric_kl(a_NN, b_NN) for a_NN, b_NN in sides]).mean(0)

    def _told(self, logits_NC: Tensor, labels_N: Tensor | None) -> list[Tensor]:
        """Return log-probabilities ``(N, N)`` of the second texts for each first one; if ``symmetric``, the reverse too.

        A pair that shares a text with pair i has the probability 0 in row i.
        """
        cosines_NN = _cosines(logits_NC) / self.temperature
        if labels_N is not None:
            never = torch.finfo(cosines_NN.dtype).min  # not −∞: of two of those there is no difference
            cosines_NN = cosines_NN.masked_fill(_kin(labels_N, labels_N).fill_diagonal_(False), never)
        sides = [cosines_NN, cosines_NN.t()] if self.symmetric else [cosines_NN]
        return [F.log_softmax(side_NN, dim=1) for side_NN in sides]

    def decode(self, logits_NC: Tensor) -> Predicted:
        """Return the cosine of each pair."""
        u_ND, v_ND = logits_NC.chunk(2, dim=1)
        return Predicted(values_N=to_numpy(F.cosine_similarity(u_ND, v_ND)))

    def beside(self, logits_NC: Tensor, labels_N: Tensor) -> dict[str, NDArray[np.float64]]:
        """Return at which place each first text finds its second one among those of all rows: its rank, 1 if first."""
        u_ND, v_ND = (F.normalize(side_ND.float(), dim=1) for side_ND in logits_NC.chunk(2, dim=1))
        parts = [
            _ranks(u_ND[start : start + _ROWS] @ v_ND.t(), _kin(labels_N[start : start + _ROWS], labels_N), start)
            for start in range(0, len(u_ND), _ROWS)
        ]
        return {"rank": to_numpy(torch.cat(parts))}


def _cosines(logits_NC: Tensor) -> Tensor:
    u_ND, v_ND = (F.normalize(side_ND, dim=1) for side_ND in logits_NC.chunk(2, dim=1))
    return u_ND @ v_ND.t()


def _kin(some_M2: Tensor, all_N2: Tensor) -> Tensor:
    """Return ``(M, N)``: whether two pairs share a text."""
    return (some_M2[:, None, :, None] == all_N2[None, :, None, :]).flatten(2).any(2)


def _ranks(cosines_MN: Tensor, kin_MN: Tensor, start: int) -> Tensor:
    """Return the rank of pair ``start`` + m among the others in row m; ties count against it."""
    own_M1 = cosines_MN.diagonal(offset=start)[:, None]
    return 1 + ((cosines_MN >= own_M1) & ~kin_MN).sum(1)
