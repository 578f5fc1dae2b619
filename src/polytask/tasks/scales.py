"""The order of words that are steps of a scale, as far as people use the same ones: a proposal, never a rule."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DEGREES = (
    "none no never not strongly_disagree very_negative terrible awful worst very_bad very_poor very_low lowest a1",
    "disagree negative bad poor low small minor rarely easy weak mild beginner somewhat_negative a2 below_average",
    "somewhat neutral ok okay fair average medium mid mixed normal moderate sometimes partly intermediate b1",
    "above_average somewhat_positive b2",
    "agree positive good high large big major often hard strong severe advanced c1",
    "always strongly_agree very_positive excellent great best very_good very_high highest critical extreme expert c2",
)


def in_order(labels: Iterable[str]) -> list[str]:
    """Return labels from the least to the most; those that are no words of a scale stand in its middle, by letters."""
    return sorted(labels, key=lambda label: (_degree(label), label))


def _degree(label: str) -> int:
    word = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    return next((place for place, words in enumerate(_DEGREES) if word in words.split()), len(_DEGREES) // 2)
