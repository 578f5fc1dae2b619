from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .base import Augmentation, Words, augmentations

_MARKS = (".", ";", "?", ":", "!", ",")


@augmentations.register("aeda")
class Aeda(Augmentation):
    """Punctuation marks between the words: 1 to a third of their number (AEDA; Karimi, Rossi & Prati 2021, §2)."""

    def __init__(self, *, copies: int = 1) -> None:
        super().__init__(copies)

    def variant(self, words: Sequence[str], generator: np.random.Generator) -> Words:
        count = int(generator.integers(1, max(len(words) // 3, 1), endpoint=True))
        before = set(generator.permutation(len(words))[:count].tolist())
        changed: Words = []
        for place, word in enumerate(words):
            changed += [str(generator.choice(_MARKS)), word] if place in before else [word]
        return changed
