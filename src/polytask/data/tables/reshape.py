"""Rows of other tables as the rows of a task of their own: split into texts, paired, put one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from .examples import Examples


def each_text(data: Examples) -> Examples:
    """Return every text as a row of its own, without labels, and each text once."""
    ids = [
        f"{row_id}/{column + 1}" if len(data.texts) > 1 else row_id
        for row_id in data.ids
        for column in range(len(data.texts))
    ]
    texts = [text for row in zip(*data.texts, strict=True) for text in row]
    places = [place for place in data.places for _ in data.texts]
    first = {_plain(text): number for number, text in reversed([*enumerate(texts)])}
    return replace(data, texts=[texts], labels=[], ids=ids, places=places).take(sorted(first.values()))


def twice(data: Examples) -> Examples:
    """Return single texts as pairs with themselves."""
    return replace(data, texts=[data.texts[0], data.texts[0]])


def joined(name: str, parts: Sequence[Examples]) -> Examples:
    """Return the rows of several tables, one after the other. Those with labels have them in all parts."""
    rows = [(part.name, row_id) for part in parts for row_id in part.ids]
    prefix = len(parts) > 1
    fingerprints = "\n".join(part.fingerprint for part in parts)
    return Examples(
        name,
        [
            [text for column in columns for text in column]
            for columns in zip(*(part.texts for part in parts), strict=True)
        ],
        [label for part in parts for label in part.labels],
        [f"{table}:{row_id}" if prefix else row_id for table, row_id in rows],
        [*range(1, len(rows) + 1)],
        "row",
        sum(part.skipped for part in parts),
        hashlib.sha256(fingerprints.encode()).hexdigest(),
    )


def without(data: Examples, held_out: Iterable[Examples]) -> Examples:
    """Return the rows whose texts are not those of a row that is held out.

    A single text, also one that is paired with itself, must not occur there at all; of a pair, not both texts in one
    row, in whichever order.
    """
    held: set[frozenset[str]] = set()
    for table in held_out:
        for row in zip(*table.texts, strict=True):
            texts = frozenset(map(_plain, row))
            held |= {texts, *(frozenset([text]) for text in texts)}
    rows = zip(*data.texts, strict=True)
    return data.take([number for number, row in enumerate(rows) if frozenset(map(_plain, row)) not in held])


def _plain(text: str) -> str:
    return text.strip().lower()
