"""Which rows are held out for dev: drawn once for all tasks of a recipe, so that no task learns what another is asked.

Rows that share a text form a group, whichever tables they come from; a group lies on one side for all tasks. Of a pair
either text makes a group: whoever has learnt of one question what it means is not new to its next pair. Where such
chains leave too few rows for the share (one query in most rows), pairs are grouped by both texts together, and that is told.

Groups are drawn by iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011): the rarest label first, each label as
often as its share asks for. What a label's share leaves over of a row is carried on to the next label, so that 50 classes of
4 rows, of which none alone has a row to give for a share of 0.1, give 20 between them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from polytask.errors import TableError
from polytask.runtime.keys import numpy_generator

from .examples import Examples

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Asked:
    """A table of which ``share`` is to be held out. ``strata``: the labels of each row, or none where they do not count."""

    data: Examples
    share: float
    strata: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Halves:
    """The rows of train and of dev, in order; ``whole_pairs`` says that pairs are kept apart by both texts together."""

    train: list[int]
    dev: list[int]
    whole_pairs: bool = False


def hold_out(asked: Sequence[Asked], *key: int | str) -> list[Halves]:
    """Draw the rows that are held out of several tables. Raises TableError where one side of a table would be empty."""
    keys = [_keys(one.data) for one in asked]
    whole = [False] * len(asked)
    groups = _groups(keys)
    for at, one in enumerate(asked):
        sizes = np.bincount(groups[at])
        if len(one.data.texts) > 1 and len(one.data) - sizes.max() < one.share * len(one.data):
            keys[at] = _joined(keys[at])
            whole[at] = True
    if any(whole):
        groups = _groups(keys)
    chosen = _draw(asked, groups, numpy_generator(*key, "dev split"))
    return [_halves(one, chosen[group_N], pairs) for one, group_N, pairs in zip(asked, groups, whole, strict=True)]


def shared_texts(train: Examples, dev: Examples) -> int:
    """Return how many rows of dev have a text (a pair: both of its texts) that a row of train has as well."""
    both = [frozenset(map(_plain, row)) for row in zip(*dev.texts, strict=True)]
    known = {frozenset(map(_plain, row)) for row in zip(*train.texts, strict=True)}
    if len(train.texts) > 1:
        known |= {frozenset([text]) for row in known for text in row}
    return sum(row in known for row in both)


def _halves(one: Asked, dev_N: NDArray[np.bool_], whole_pairs: bool) -> Halves:
    halves = Halves(np.flatnonzero(~dev_N).tolist(), np.flatnonzero(dev_N).tolist(), whole_pairs)
    if not halves.train or not halves.dev:
        side = "train" if halves.dev else "dev"
        raise TableError(
            f"{one.data.name} has {len(one.data)} rows: a dev share of {one.share:g} leaves none for {side}."
        )
    return halves


def _draw(asked: Sequence[Asked], groups: Sequence[Numbers], generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return for each group whether it is held out."""
    total = 1 + max(int(group_N.max()) for group_N in groups)
    strata: list[dict[int, int]] = []  # of each stratum: rows by group
    wanted: list[float] = []
    for at, one in enumerate(asked):
        own: dict[str, dict[int, int]] = {}
        for group, labels in zip(groups[at].tolist(), one.strata, strict=True):
            for label in labels or ("",):
                rows = own.setdefault(label, {})
                rows[group] = rows.get(group, 0) + 1
        for label in sorted(own, key=lambda label: (sum(own[label].values()), label)):
            strata.append(own[label])
            wanted.append(one.share * sum(own[label].values()))
    of_group: dict[int, list[int]] = {}
    for stratum, rows in enumerate(strata):
        for group in rows:
            of_group.setdefault(group, []).append(stratum)
    order = generator.permutation(total)
    rank = np.empty_like(order)
    rank[order] = np.arange(total)
    free, chosen = np.ones(total, dtype=bool), np.zeros(total, dtype=bool)
    carried = 0.0
    for stratum in sorted(range(len(strata)), key=lambda stratum: len(strata[stratum])):
        quota = wanted[stratum] + carried
        for group in sorted((group for group in strata[stratum] if free[group]), key=rank.__getitem__):
            rows_in = strata[stratum][group]
            free[group] = False
            if rows_in <= 2 * quota and quota > _ALMOST_NONE:
                chosen[group] = True
                quota -= rows_in
                for other in of_group[group]:
                    wanted[other] -= strata[other][group] if other != stratum else 0
        carried = quota
    return chosen


_ALMOST_NONE = 1e-9


def _groups(keys: Sequence[NDArray[np.uint64]]) -> list[Numbers]:
    """Return for each table the group of each row; ``keys`` are those of its texts, ``(rows, texts)``."""
    _, number = np.unique(np.concatenate([table.reshape(-1) for table in keys]), return_inverse=True)
    parent = list(range(int(number.max()) + 1))

    def root(text: int) -> int:
        while parent[text] != text:
            parent[text] = text = parent[parent[text]]
        return text

    tables: list[Numbers] = []
    start = 0
    for table in keys:
        tables.append(number[start : start + table.size].reshape(table.shape))
        start += table.size
        if table.shape[1] > 1:
            for first, *others in tables[-1].tolist():
                for other in others:
                    parent[root(other)] = root(first)
    found = np.asarray([root(text) for text in range(len(parent))], dtype=np.int64)
    return [found[table[:, 0]] for table in tables]


def _keys(data: Examples) -> NDArray[np.uint64]:
    columns = [array("Q", (_key(text) for text in column)) for column in data.texts]
    return np.stack([np.asarray(column, dtype=np.uint64) for column in columns], axis=1)


def _joined(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one key for each row of a pair's two, whatever their order."""
    ordered = np.sort(keys, axis=1)
    return np.asarray([_digest(row.tobytes()) for row in ordered], dtype=np.uint64)[:, None]


def _key(text: str) -> int:
    return _digest(_plain(text).encode())


def _digest(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def _plain(text: str) -> str:
    return text.strip().lower()
