"""What belongs to one task, on top of an encoder.

Shapes: N rows, K tokens of a text that are asked about, D width, C logits, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from polytask.packing import EncoderOutput

from .language import EveryToken
from .logits.base import checked_rate
from .orders import Orders, as_given
from .pairs.base import Merge
from .pooling.base import Pooling
from .projection import Projection
from .thresholds import Thresholds


class TaskHead(nn.Module):
    """What belongs to one task, saved with the model.

    Pooling; a projection of each text, and dropout on it; the merge of two texts (bi-encoders only); head; thresholds at
    which the head's one score becomes several logits; in which orders a pair is looked at.
    """

    def __init__(
        self,
        pooling: Pooling,
        head: nn.Module,
        merge: Merge | None = None,
        *,
        projection: Projection | None = None,
        dropout: float = 0.0,
        thresholds: Thresholds | None = None,
        orders: Orders = as_given,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.projection = projection or nn.Identity()
        self.dropout = nn.Dropout(checked_rate(dropout)) if dropout else nn.Identity()
        self.merge = merge
        self.head = head
        self.thresholds = thresholds or nn.Identity()
        self.orders = orders

    def forward(self, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the logits ``(N, C)`` of each order, from one pooled vector ``(N, D)`` for each row, or two."""
        return self.orders(self.logits, [self.dropout(self.projection(vector_ND)) for vector_ND in vectors])

    def logits(self, projected: Sequence[Tensor]) -> Tensor:
        """Return logits ``(N, C)`` from one projected vector for each row, or two in the order that they are given in."""
        merged_ND = projected[0] if self.merge is None else self.merge(*projected)
        logits_NC: Tensor = self.thresholds(self.head(merged_ND))
        return logits_NC

    def pool(self, output: EncoderOutput) -> Tensor:
        """Return one vector ``(N, D)`` for each row's text in a stream."""
        vector_ND: Tensor = self.pooling(output)
        order_N = output.batch.order_N
        return vector_ND if order_N is None else vector_ND[order_N]


class TokenHead(TaskHead):
    """A head on single tokens: logits ``(N, K, V)`` of the K tokens of each text that the task asks about."""

    def __init__(self, width: int, head: nn.Module) -> None:
        super().__init__(EveryToken(width), head)

    def logits(self, projected: Sequence[Tensor]) -> Tensor:
        (vectors_NKD,) = projected
        logits_MV: Tensor = self.head(vectors_NKD.flatten(0, 1))
        return logits_MV.view(*vectors_NKD.shape[:2], -1)

    def pool(self, output: EncoderOutput) -> Tensor:
        """Return the vectors of the tokens that are asked about, ``(N, K, D)``, fp32."""
        tokens_PD: Tensor = self.pooling(output)
        return tokens_PD[output.batch.asked_NK].float()
