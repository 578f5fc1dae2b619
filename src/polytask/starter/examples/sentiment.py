"""Five-way sentiment. The same adjectives serve opposite labels: negation, concession, order and degree decide."""

from __future__ import annotations

import random

from .grammar import Row, Split, distinct, generator, sentence

SENTIMENT_LABELS = ("very negative", "negative", "neutral", "positive", "very positive")

ROWS_PER_LABEL: dict[Split, int] = {"train": 120, "dev": 36}

WORDS: dict[Split, dict[str, str]] = {
    "train": {
        "noun": ("plot acting music ending dialogue film meal service soup waiter room novel play game photography"),
        "great": (
            "superb brilliant wonderful outstanding magnificent stunning fantastic glorious breathtaking "
            "flawless terrific splendid awesome unforgettable dazzling sensational"
        ),
        "good": (
            "good pleasant enjoyable fine likeable solid decent okay nice respectable charming capable "
            "pleasing sound watchable"
        ),
        "plain": "average ordinary standard typical usual common normal neutral",
        "bad": (
            "dull weak boring clumsy bland tiresome unconvincing predictable disappointing sloppy dreary "
            "stale bumpy thin unimpressive"
        ),
        "awful": (
            "terrible dreadful atrocious appalling horrendous disgusting abysmal unbearable pathetic "
            "revolting horrid insufferable wretched nightmarish nauseating"
        ),
    },
    "dev": {
        "noun": "script cast soundtrack finale documentary dessert hotel concert album lecture museum breakfast",
        "great": "excellent marvelous phenomenal spectacular extraordinary sublime exquisite amazing perfect",
        "good": "agreeable acceptable satisfactory fair reasonable competent worthwhile likable alright satisfying",
        "plain": "conventional unremarkable routine middling run-of-the-mill moderate so-so",
        "bad": "tedious forgettable slow messy lame uninspired underwhelming unsatisfying awkward shallow",
        "awful": "horrible awful hideous disastrous horrific vile catastrophic ghastly repulsive abominable",
    },
}
"""Five degrees of adjective and what they are said of; no word stands in both splits."""

TEMPLATES: dict[Split, tuple[tuple[str, ...], ...]] = {
    "train": (
        (
            "the {noun} was {awful}",
            "what a {awful} {noun}",
            "the {noun} was {awful} and the {noun2} was {awful2}",
            "not one moment of the {noun} was {good}, all of it was {awful}",
            "I have never known a more {awful} {noun}",
            "the {noun} was not just {bad}, it was {awful}",
            "I regret the {awful} {noun} and the {awful2} {noun2}",
        ),
        (
            "the {noun} was {bad}",
            "the {noun} was rather {bad}",
            "the {noun} was not {good}",
            "the {noun} was {good} but the {noun2} was {bad}",
            "although the {noun} was {great}, the {noun2} was {awful}",
            "the {noun} started {good} and ended {bad}",
            "the {noun} was less {good} than I expected",
            "I expected a {great} {noun}, but it was {bad}",
        ),
        (
            "the {noun} was {plain}",
            "the {noun} was neither {good} nor {bad}",
            "the {noun} was neither {great} nor {awful}",
            "some of the {noun} was {good} and some of it was {bad}",
            "it was simply a {plain} {noun}, no better and no worse",
            "the {noun} was not {good} and it was not {bad}",
            "nothing in the {noun} was {great} or {awful}",
            "one half of the {noun} was {good}, the other half {bad}",
        ),
        (
            "the {noun} was {good}",
            "the {noun} was rather {good}",
            "the {noun} was not {bad}",
            "the {noun} was {bad} but the {noun2} was {good}",
            "although the {noun} was {awful}, the {noun2} was {great}",
            "the {noun} started {bad} and ended {good}",
            "the {noun} was less {bad} than I expected",
            "I expected a {awful} {noun}, but it was {good}",
        ),
        (
            "the {noun} was {great}",
            "what a {great} {noun}",
            "the {noun} was {great} and the {noun2} was {great2}",
            "not one moment of the {noun} was {bad}, all of it was {great}",
            "I have never known a more {great} {noun}",
            "the {noun} was not just {good}, it was {great}",
            "I remember the {great} {noun} and the {great2} {noun2}",
        ),
    ),
    "dev": (
        (
            "this {noun} is {awful}",
            "it is a {awful} {noun} with a {awful2} {noun2}",
            "how {awful} this {noun} is",
            "this {noun} is truly {awful} throughout",
            "this {noun} is more than {bad}, it is truly {awful}",
            "not one minute of this {noun} is {good}: it is {awful}",
        ),
        (
            "this {noun} is quite {bad}",
            "this {noun} is hardly {great}",
            "this is not a {good} {noun}",
            "this {noun} has a {good} {noun2}, yet it is {bad}",
            "the {noun} is {great}, though sadly the {noun2} is {awful}",
            "at first this {noun} is {good}, later it is {bad}",
            "the {good} {noun} cannot make up for the {bad} {noun2}",
        ),
        (
            "this {noun} is {plain}",
            "this {noun} is not {good}, and not {bad} either",
            "parts of this {noun} are {good} and other parts are {bad}",
            "this is neither a {great} {noun} nor a {awful} one",
            "this is a {plain} {noun} with a {plain2} {noun2}",
        ),
        (
            "this {noun} is quite {good}",
            "this {noun} is hardly {awful}",
            "this is not a {bad} {noun}",
            "this {noun} has a {bad} {noun2}, yet it is {good}",
            "the {noun} is {awful}, though happily the {noun2} is {great}",
            "at first this {noun} is {bad}, later it is {good}",
            "the {good} {noun} does make up for the {bad} {noun2}",
        ),
        (
            "this {noun} is {great}",
            "it is a {great} {noun} with a {great2} {noun2}",
            "how {great} this {noun} is",
            "this {noun} is truly {great} throughout",
            "this {noun} is more than {good}, it is truly {great}",
            "not one minute of this {noun} is {bad}: it is {great}",
        ),
    ),
}
"""Templates by label. Labels mirror each other (0 and 4, 1 and 3), so that frame words tell next to nothing of the sign."""


def sentiment_rows(split: Split, seed: int = 0) -> list[Row]:
    """Return the rows of one split in a shuffled order, the same number for each label."""
    rng = generator("sentiment", split, seed)
    labelled = [(text, label) for label in range(len(SENTIMENT_LABELS)) for text in _texts(split, label, rng)]
    rng.shuffle(labelled)
    return [
        {"id": f"sentiment-{split}-{index:04d}", "sentence": text, "sentiment": label}
        for index, (text, label) in enumerate(labelled)
    ]


def _texts(split: Split, label: int, rng: random.Random) -> list[str]:
    templates = TEMPLATES[split][label]
    return distinct(
        ROWS_PER_LABEL[split], lambda index: sentence(templates[index % len(templates)], _filling(split, rng))
    )


def _filling(split: Split, rng: random.Random) -> dict[str, str]:
    filling = {}
    for slot, listed in WORDS[split].items():
        filling[slot], filling[f"{slot}2"] = rng.sample(listed.split(), 2)
    return filling
