from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from torch import Tensor

from .base import Kind


class Unlabelled(Kind):
    """A kind that learns from texts alone: its tables have no label column, and its head is its own."""

    has_labels = False
    takes = frozenset({"pooling", "projection"})

    def __init__(self, labels: Mapping[str, str]) -> None:
        super().__init__({})
        if labels:
            raise ValueError("it learns from texts and takes no labels")

    @property
    def outputs(self) -> int:
        """0: how many numbers it reads is settled by the encoder."""
        return 0

    def truth(self, labels_N: Tensor) -> None:
        return None

    def encode(self, text: str) -> NoReturn:
        raise ValueError(f"'{text[:80]}' is not wanted: this kind reads no labels")
