"""The contract of an augmentation: changed copies of a training text, word by word."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from polytask.registry import Registry

Words = list[str]


class Augmentation(ABC):
    """Makes ``copies`` of every training row. ``files`` names the options that are paths of files."""

    files: ClassVar[tuple[str, ...]] = ()

    def __init__(self, copies: int) -> None:
        if copies < 1:
            raise ValueError(f"copies is {copies}; it is at least 1")
        self.copies = copies

    @abstractmethod
    def variant(self, words: Sequence[str], generator: np.random.Generator) -> Words:
        """Return a changed copy of the words of a text; never none when there are some."""

    def fingerprints(self) -> dict[str, str]:
        """Return the SHA-256 of every file that is read, by option."""
        return {}


augmentations: Registry[Augmentation] = Registry("augmentations", "polytask.data.augment")
