"""Similarity from 0 to 5: the weight of the parts (who, did what, to what, where) that two sentences agree on.

Synonyms count as agreement, and a denial of one sentence leaves two fifths of it. A swap of roles needs no rule of its
own: who and whom both differ then.
"""

from __future__ import annotations

import random

from .events import Event, changed, event
from .grammar import Row, Split, distinct, generator, sentence
from .lexicon import SCENES

ROWS: dict[Split, int] = {"train": 500, "dev": 180}

WEIGHTS = {"agent": 1.0, "action": 1.5, "object": 1.5, "place": 1.0}
DENIAL = 0.4

FRAMES: dict[Split, dict[str, tuple[str, ...]]] = {
    "train": {
        "plain": (
            "the {agent} {action} the {object} {place}",
            "the {object} was {action} by the {agent} {place}",
            "{place} the {agent} {action} the {object}",
        ),
        "denied": (
            "the {agent} never {action} the {object} {place}",
            "the {object} was not {action} by the {agent} {place}",
        ),
    },
    "dev": {
        "plain": (
            "it was the {agent} who {action} the {object} {place}",
            "{place} the {object} had been {action} by the {agent}",
        ),
        "denied": (
            "it was not the {agent} who {action} the {object} {place}",
            "{place} the {object} had never been {action} by the {agent}",
        ),
    },
}

CHANGES: tuple[str, ...] = (
    *(("",) * 4),
    "place",
    "agent",
    *(("action", "object", "agent place") * 2),
    "agent object",
    "action place",
    "object place",
    "agent action",
    "action object",
    "agent action place",
    "agent object place",
    "action object place",
    *(("agent action object place",) * 3),
)
"""Which parts change; agreement in all and in none come more often, so that the scores fill their range."""


def score(first: Event, second: Event) -> float:
    """Return the weight of the parts that agree, of 5."""
    return sum(weight for part, weight in WEIGHTS.items() if getattr(first, part) == getattr(second, part))


def similarity_rows(split: Split, seed: int = 0) -> list[Row]:
    """Return the rows of one split in a shuffled order."""
    rng = generator("similarity", split, seed)
    scored = distinct(ROWS[split], lambda index: _scored_pair(index, split, rng))
    rng.shuffle(scored)
    return [
        {"id": f"similarity-{split}-{index:04d}", "sentence1": first, "sentence2": second, "similarity": similarity}
        for index, (first, second, similarity) in enumerate(scored)
    ]


def _scored_pair(index: int, split: Split, rng: random.Random) -> tuple[str, str, float]:
    first = event(split, rng.choice(SCENES[split]), rng)
    second = changed(first, tuple(CHANGES[index % len(CHANGES)].split()), split, rng)
    moods = _moods(index // len(CHANGES))
    texts = [
        sentence(rng.choice(FRAMES[split][mood]), part.words(rng.choice))
        for mood, part in zip(moods, (first, second), strict=True)
    ]
    agreement = score(first, second) * (DENIAL if moods[0] != moods[1] else 1.0)
    return texts[0], texts[1], round(agreement, 1)


def _moods(turn: int) -> tuple[str, str]:
    """Deny one sentence in two turns of seven, and both in a third, so that 'never' alone says little."""
    return {0: ("plain", "denied"), 1: ("denied", "plain"), 2: ("denied", "denied")}.get(turn % 7, ("plain", "plain"))
