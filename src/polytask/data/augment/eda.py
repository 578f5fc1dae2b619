from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from polytask.errors import TableError

from .base import Augmentation, Words, augmentations

Thesaurus = Mapping[str, Sequence[str]]


@augmentations.register("eda")
class Eda(Augmentation):
    """One of four small changes: synonyms replaced or inserted, words swapped or deleted (Wei & Zou 2019, §2).

    Each option is the share α of the words that is changed, at least one of them; of ``delete`` it is the probability
    of each. ``replace`` and ``insert`` draw from ``synonyms``, a file with a word and its synonyms on each line, with
    tabs between them: the paper's own source, WordNet, does not come with polytask. They are 0.1 when there is a file.
    Leave stop words out of it, as the paper does. Words are looked up in lower case and without the punctuation around
    them; what replaces one takes on its punctuation and its capital.

    Where the change that was drawn leaves a text as it is, another is drawn, until none is left to try; a deletion that
    met no word then takes one.
    """

    files: ClassVar[tuple[str, ...]] = ("synonyms",)

    def __init__(
        self,
        *,
        copies: int = 1,
        swap: float = 0.1,
        delete: float = 0.1,
        replace: float | None = None,
        insert: float | None = None,
        synonyms: str | None = None,
    ) -> None:
        super().__init__(copies)
        default = 0.0 if synonyms is None else 0.1
        self.shares = {
            "swap": swap,
            "delete": delete,
            "replace": default if replace is None else replace,
            "insert": default if insert is None else insert,
        }
        self.synonyms = synonyms
        for option, share in self.shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{option} is {share}; it is a share of the words, between 0 and 1")
            if share and option in ("replace", "insert") and synonyms is None:
                raise ValueError(
                    f"'{option}' needs synonyms = \"FILE\": a word and its synonyms on each line, tabs between them "
                    "(WordNet, which the paper draws from, does not come with polytask)"
                )
        self._changes: list[Callable[[Words, np.random.Generator], Words]] = [
            getattr(self, f"_{option}") for option, share in self.shares.items() if share
        ]
        if not self._changes:
            raise ValueError("swap, delete, replace and insert are all 0: nothing would be changed")

    def variant(self, words: Sequence[str], generator: np.random.Generator) -> Words:
        for number in generator.permutation(len(self._changes)):
            changed = self._changes[int(number)](list(words), generator)
            if changed != list(words):
                return changed
        gone = int(generator.integers(len(words))) if self.shares["delete"] and len(words) > 1 else len(words)
        return [word for place, word in enumerate(words) if place != gone]

    def fingerprints(self) -> dict[str, str]:
        if self.synonyms is None:
            return {}
        return {"synonyms": hashlib.sha256(_content(self.synonyms)).hexdigest()}

    @cached_property
    def thesaurus(self) -> Thesaurus:
        """The synonyms of each word, in lower case."""
        return {} if self.synonyms is None else _read(self.synonyms)

    def _count(self, option: str, words: Words) -> int:
        return max(int(self.shares[option] * len(words)), 1)

    def _known(self, words: Words) -> list[int]:
        return [place for place, word in enumerate(words) if self._core(word).lower() in self.thesaurus]

    def _core(self, word: str) -> str:
        """Return what of a word is looked up: all of it where the thesaurus has it so ("u.s."), else no punctuation."""
        return word if word.lower() in self.thesaurus else re.sub(r"^[\W_]+|[\W_]+$", "", word)

    def _synonym(self, word: str, generator: np.random.Generator) -> str:
        choices = self.thesaurus[word.lower()]
        return choices[int(generator.integers(len(choices)))]

    def _in_place(self, word: str, generator: np.random.Generator) -> Words:
        """Return a synonym's words, in the punctuation and with the capital of the word that they stand for."""
        core = self._core(word)
        before, _, after = word.partition(core)
        synonym = self._synonym(core, generator)
        return f"{before}{synonym[0].upper() if core[0].isupper() else synonym[0]}{synonym[1:]}{after}".split()

    def _swap(self, words: Words, generator: np.random.Generator) -> Words:
        for _ in range(self._count("swap", words) if len(words) > 1 else 0):
            a, b = generator.permutation(len(words))[:2]
            words[a], words[b] = words[b], words[a]
        return words

    def _delete(self, words: Words, generator: np.random.Generator) -> Words:
        drawn = generator.random(len(words))
        kept = [word for word, value in zip(words, drawn, strict=True) if value >= self.shares["delete"]]
        return kept or [words[int(drawn.argmax())]]

    def _replace(self, words: Words, generator: np.random.Generator) -> Words:
        places = generator.permutation(self._known(words))[: self._count("replace", words)]
        new = {int(place): self._in_place(words[int(place)], generator) for place in places}
        return [part for place, word in enumerate(words) for part in new.get(place, [word])]

    def _insert(self, words: Words, generator: np.random.Generator) -> Words:
        known = [self._core(words[place]) for place in self._known(words)]
        for _ in range(self._count("insert", words) if known else 0):
            synonym = self._synonym(known[int(generator.integers(len(known)))], generator).split()
            place = int(generator.integers(len(words) + 1))
            words[place:place] = synonym
        return words


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}.") from error


def _read(path: str) -> Thesaurus:
    try:
        lines = _content(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not UTF-8.") from error
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        word, *synonyms = (cell.strip() for cell in line.split("\t"))
        if not line.strip():
            continue
        if not word or not synonyms or not all(synonyms):
            raise TableError(f"{path}: line {number} is not a word and its synonyms with tabs between them.")
        found.setdefault(word.lower(), []).extend(synonyms)
    if not found:
        raise TableError(f"{path} has no synonyms.")
    return found
