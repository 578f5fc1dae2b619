"""In which orders the head looks at a pair (a, b): as it is given, or both, for tasks whose answer must not depend on it.

Shapes: N rows, D width, C logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from polytask.runtime.keys import draws_kept

Logits = Callable[[Sequence[Tensor]], Tensor]
"""From one vector ``(N, D)`` for each row, or two, to logits ``(N, C)``."""

Orders = Callable[[Logits, Sequence[Tensor]], tuple[Tensor, ...]]
"""From these to the logits ``(N, C)`` of each order."""


def as_given(logits: Logits, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the logits of the one order that there is."""
    return (logits(vectors),)


def neighbours(logits: Logits, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the logits of both orders of pairs that were encoded jointly in both, one order beside the other.

    In training each order is a row with dropout of its own, as two rows have.
    """
    both_MC = logits(vectors)
    return both_MC.reshape(-1, 2, both_MC.shape[1]).unbind(1)


def exchanged(logits: Logits, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the logits of both orders of texts that were encoded apart: each text is encoded once.

    Dropout is the same in both, so that they differ by what the order does and nothing else.
    """
    u_ND, v_ND = vectors
    with draws_kept(u_ND.device):
        first_NC = logits([u_ND, v_ND])
    return first_NC, logits([v_ND, u_ND])
