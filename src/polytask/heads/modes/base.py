"""The contract of pair modes: what a recipe may choose for two texts."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar, Literal

from polytask.heads.pairs.base import Merge
from polytask.registry import Registry


class PairMode(ABC):
    """How the two texts of a pair meet.

    ``reads``: whether both are one input ("cross"), or each is encoded apart ("bi") and merged after pooling.
    ``token_types``: whether a joint input tells the encoder which text a token is of. ``dropout`` is the rate on each
    text's vector before two are merged.
    """

    reads: ClassVar[Literal["cross", "bi"]]
    token_types: bool = True
    dropout: float = 0.0

    def merge(self, width: int) -> Merge | None:
        """Return what makes one vector of two of ``width`` numbers; None where there is one already."""
        return None

    def features(self) -> tuple[str, ...] | None:
        """Return the names of the pair features that the head is given; None without any."""
        return None


pair_modes: Registry[PairMode] = Registry("pair modes", "polytask.heads.modes")
