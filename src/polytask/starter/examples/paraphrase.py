"""Paraphrase pairs. A pair of label 0 differs in one part or two, in who did it to whom, or in a denial.

Frames are drawn alike for both labels, and synonyms stand in pairs of both: phrasing gives nothing away but a denial
of one sentence only. Counting shared words as well gets two dev pairs in three right; half would be chance.
"""

from __future__ import annotations

import random
from functools import cache

from .events import changed, event
from .grammar import Row, Split, distinct, generator, sentence
from .lexicon import AGENTS, SCENES, Scene

ROWS_PER_LABEL: dict[Split, int] = {"train": 330, "dev": 90}

FRAMES: dict[Split, dict[str, tuple[str, ...]]] = {
    "train": {
        "plain": (
            "the {agent} {action} the {object}",
            "the {object} was {action} by the {agent}",
            "as for the {object}, the {agent} {action} it",
        ),
        "denied": (
            "the {agent} never {action} the {object}",
            "the {object} was not {action} by the {agent}",
        ),
    },
    "dev": {
        "plain": (
            "it was the {agent} who {action} the {object}",
            "the {agent} had {action} the {object}",
            "the {object} had been {action} by the {agent}",
        ),
        "denied": (
            "it was not the {agent} who {action} the {object}",
            "the {object} had never been {action} by the {agent}",
        ),
    },
}

PLAIN = ("plain", "plain")
DENIED = ("denied", "denied")
ONE_DENIED = ("plain", "denied")
SWAP = ("agent", "object")

RELATIONS: tuple[tuple[tuple[tuple[str, ...], tuple[str, str]], ...], ...] = (
    (
        (("action",), PLAIN),
        (SWAP, PLAIN),
        (("object",), PLAIN),
        (("agent", "action"), PLAIN),
        ((), ONE_DENIED),
        (("action", "object"), PLAIN),
        (("agent", "action"), PLAIN),
        (("action", "object"), DENIED),
        ((), ONE_DENIED),
        (("agent", "action", "object"), PLAIN),
    ),
    (*((((), PLAIN),) * 9), ((), DENIED)),
)
"""By label: which parts change, and which of the two sentences are denied."""


def paraphrase_rows(split: Split, seed: int = 0) -> list[Row]:
    """Return the rows of one split in a shuffled order, half of them paraphrases."""
    rng = generator("paraphrase", split, seed)
    labelled = [(pair, label) for label in (0, 1) for pair in _pairs(split, label, rng)]
    rng.shuffle(labelled)
    return [
        {"id": f"paraphrase-{split}-{index:04d}", "sentence1": first, "sentence2": second, "is_duplicate": label}
        for index, ((first, second), label) in enumerate(labelled)
    ]


def _pairs(split: Split, label: int, rng: random.Random) -> list[tuple[str, str]]:
    relations = RELATIONS[label]
    return distinct(ROWS_PER_LABEL[split], lambda index: _pair(index, *relations[index % len(relations)], split, rng))


def _pair(
    index: int, parts: tuple[str, ...], moods: tuple[str, str], split: Split, rng: random.Random
) -> tuple[str, str]:
    """Return two different sentences; either may come first, for the relation has no direction.

    By chance, and whatever the label, a pair keeps to one word for each concept, or to one frame: a swap that does both
    holds the same bag of words twice.
    """
    one = event(split, _scene(index, split, rng), rng)
    events = (one, changed(one, parts, split, rng))
    texts: list[str] = []
    while len(set(texts)) < 2:
        frame, word = (cache(rng.choice) if rng.random() < 0.5 else rng.choice for _ in range(2))
        texts = [
            sentence(frame(FRAMES[split][mood]), part.words(word)) for mood, part in zip(moods, events, strict=True)
        ]
    first, second = rng.sample(texts, 2)
    return first, second


def _scene(index: int, split: Split, rng: random.Random) -> Scene:
    """Return a scene among people where label 0 has a swap, for both labels, so that people mean neither."""
    people = RELATIONS[0][index % len(RELATIONS[0])][0] == SWAP
    return rng.choice([scene for scene in SCENES[split] if (scene.objects is AGENTS[split]) == people])
