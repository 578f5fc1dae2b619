"""Phrases of labelled trees as training rows, without those of sentences that a model is judged by."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .trees import Treebank

Words = tuple[str, ...]

_ESCAPES = {
    "-lrb-": "(",
    "-rrb-": ")",
    "-lsb-": "[",
    "-rsb-": "]",
    "-lcb-": "{",
    "-rcb-": "}",
    "``": '"',
    "''": '"',
    "\\/": "/",
    "\\*": "*",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "`": "'",
    "—": "--",
}
"""How the Penn Treebank and typesetters write what a keyboard has: brackets, quotes, dashes."""

_ESCAPE = re.compile("|".join(re.escape(escape) for escape in _ESCAPES))
_NEGATION = re.compile(r"(?<=\w)n't\b")
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Phrase:
    """A phrase to learn from: its label, and the line of its tree and the number of its node there."""

    text: str
    label: str
    line: int
    node: int


@dataclass(frozen=True)
class Phrases:
    """The phrases that were chosen, and how many others there are: too short, rows of train already, held out."""

    chosen: list[Phrase]
    short: int
    known: int
    held_out: int


def normal_words(text: str) -> Words:
    """Return a text's words in a form that case, spacing and treebank escapes do not change: ``ca n't`` is ``can't``."""
    plain = _ESCAPE.sub(lambda match: _ESCAPES[match.group()], unicodedata.normalize("NFKC", text).lower())
    return tuple(_WORD.findall(_NEGATION.sub(" n't", plain)))


def choose_phrases(bank: Treebank, *, known: Iterable[str], held_out: Iterable[str], min_words: int = 1) -> Phrases:
    """Choose every different phrase of ``min_words`` words or more, with the label that it bears most often.

    Left out are the texts of ``known``, and every run of words of a text of ``held_out``: the phrases of that
    sentence's own tree are all among them, whether there is a tree of it or not.
    """
    found = _distinct(bank)
    long = {words: phrase for words, phrase in found.items() if len(phrase.text.split(" ")) >= min_words}
    stays_out = runs_of_words(held_out, long)
    rows = {normal_words(text) for text in known} & long.keys() - stays_out
    chosen = [phrase for words, phrase in long.items() if words not in stays_out and words not in rows]
    return Phrases(chosen, len(found) - len(long), len(rows), len(stays_out))


def runs_of_words(texts: Iterable[str], wanted: Collection[Words]) -> set[Words]:
    """Return those of ``wanted`` that occur in one of the texts as a run of neighbouring words."""
    longest = max(map(len, wanted), default=0)
    found: set[Words] = set()
    for text in texts:
        words = normal_words(text)
        for start in range(len(words)):
            for end in range(start + 1, min(start + longest, len(words)) + 1):
                if words[start:end] in wanted:
                    found.add(words[start:end])
    return found


def _distinct(bank: Treebank) -> dict[Words, Phrase]:
    """Return each phrase once, as it is first written; of several labels the commonest, then the first."""
    votes: Counter[tuple[str, str]] = Counter()
    first: dict[str, tuple[int, int]] = {}
    for tree in bank.trees:
        for number, node in enumerate(tree.nodes, 1):
            text = tree.phrase(node)
            votes[text, node.label] += 1
            first.setdefault(text, (tree.line, number))
    spelled: dict[Words, str] = {}
    labels: dict[Words, dict[str, int]] = {}
    for (text, label), count in votes.items():
        words = normal_words(text)
        spelled.setdefault(words, text)
        of_words = labels.setdefault(words, {})
        of_words[label] = of_words.get(label, 0) + count
    return {
        words: Phrase(text, max(labels[words], key=labels[words].__getitem__), *first[text])
        for words, text in spelled.items()
    }
