"""What the three grammars share: rows, splits, the words that both splits may use, and the drawing of distinct rows."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Hashable, Mapping
from typing import Literal, TypeVar

Row = dict[str, str | int | float]
Split = Literal["train", "dev"]

T = TypeVar("T", bound=Hashable)


def words(text: str) -> frozenset[str]:
    """Return the lower-case words of a text."""
    return frozenset(re.findall(r"[a-z]+", text.lower()))


FUNCTION_WORDS = words(
    """
    a an the this that it its one other half there i we who whom what than as so for of to from by with in on at
    is are was has had be been being and or but yet nor neither either although while though if not no never nothing
    hardly more less most all some every both each
    """
)
"""The closed words of English, the only ones that dev texts may share with train texts."""

PATIENCE = 200
"""Draws without a new row before a grammar counts as exhausted."""


def generator(task: str, split: Split, seed: int) -> random.Random:
    """Return the generator of one table. The key holds the names, so that no table shifts the draws of another."""
    return random.Random(f"polytask-examples/{task}/{split}/{seed}")


def sentence(template: str, filling: Mapping[str, str]) -> str:
    """Fill a template, and write it as a person would: 'an' before a vowel, a capital, a full stop."""
    text = re.sub(r"\ba (?=[aeiou])", "an ", template.format_map(filling))
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def distinct(count: int, draw: Callable[[int], T]) -> list[T]:
    """Return ``count`` different results of ``draw(0), draw(1), …``; a repeated one is drawn again, not skipped,
    so that every template that the index picks keeps its share of the table."""
    drawn: dict[T, None] = {}
    for index in range(count):
        for _ in range(PATIENCE):
            candidate = draw(index)
            if candidate not in drawn:
                drawn[candidate] = None
                break
        else:
            raise ValueError(f"the grammar has no new row after {len(drawn)} of {count}: it needs more words")
    return list(drawn)
