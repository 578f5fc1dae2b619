from __future__ import annotations

from .base import PairMode, pair_modes


@pair_modes.register("cross")
class Cross(PairMode):
    """Both texts joined into one input; ``types`` tells the encoder which text a token is of."""

    reads = "cross"

    def __init__(self, *, types: bool = True) -> None:
        self.token_types = types
