"""In which orders the head looks at a pair (a, b): as it is given, or both, for tasks whose answer must not depend on it.

Shapes: N rows, D width, C logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Logits = Callable[[Sequence[Tensor]], Tensor]
"""From one vector ``(N, D)`` for each row, or two, to logits ``(N, C)``."""

Orders = Callable[[Logits, Sequence[Tensor]], tuple[Tensor, ...]]
"""From these to the logits ``(N, C)`` of each order."""


def as_given(logits: Logits, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the logits of the one order that there is."""
    return (logits(vectors),)


def neighbours(logits: Logits, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the logits of both orders of pairs that were encoded jointly in both, one order beside the other."""
    both_MC = logits(vectors)
    return both_MC.reshape(-1, 2, both_MC.shape[1]).unbind(1)


def exchanged(logits: Logits, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the logits of both orders of texts that were encoded apart: each text is encoded once."""
    u_ND, v_ND = vectors
    return logits([u_ND, v_ND]), logits([v_ND, u_ND])
