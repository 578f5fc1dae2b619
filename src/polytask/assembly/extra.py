"""Extra rows to learn from: phrases of trees, changed copies. They join train after dev was set apart from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from polytask.data.augment.base import Augmentation, augmentations
from polytask.data.tables.examples import Examples
from polytask.data.tables.phrases import Phrases, choose_phrases
from polytask.data.tables.problems import RowProblems
from polytask.data.tables.sources import read_table
from polytask.data.tables.trees import Treebank, read_trees
from polytask.errors import TableError
from polytask.recipe.facts import given_labels, kind_of, layout_of, new_kind, text_columns
from polytask.recipe.settings import Member, Recipe, TaskSettings
from polytask.runtime.keys import numpy_generator

from .record import Splits
from .tables import source_of


@dataclass
class _Extra:
    """What was found for one task: rows, the content of the files that were read, counts, a sentence for the person."""

    texts: list[list[str]]
    labels: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    note: str = ""

    def add(self, texts: list[str], label: str | None, id: str, place: int) -> None:
        for column, text in zip(self.texts, texts, strict=True):
            column.append(text)
        if label is not None:
            self.labels.append(label)
        self.ids.append(id)
        self.places.append(place)


def add_rows(
    tables: Mapping[str, Splits], recipe: Recipe, base: Path, note: Callable[[str], None]
) -> dict[str, Splits]:
    """Return the tables with every task's extra rows in train. Raises TableError for all files that are wrong, at once."""
    folder = base / Path(recipe.data or ".").expanduser()
    found: dict[str, Splits] = {}
    wrong: list[str] = []
    for name in tables:
        try:
            found[name] = _with_extra(name, tables, recipe, folder, note)
        except TableError as error:
            wrong.append(f"Task '{name}': {error}")
    if wrong:
        raise TableError("\n".join(wrong))
    return found


def new_augmentation(settings: TaskSettings, folder: Path) -> Augmentation | None:
    """Return a task's augmentation; paths among its options start from ``folder``."""
    if settings.augment is None:
        return None
    options = settings.augment.options
    paths = set(augmentations.member(settings.augment.name).files) & options.keys()
    options |= {option: str(source_of(options[option], folder)) for option in paths}
    return augmentations.create(settings.augment.name, **options)


def resolved_extra(settings: TaskSettings, folder: Path) -> dict[str, Any]:
    """Return the settings of extra rows, their files as absolute paths."""
    changes: dict[str, Any] = {}
    if settings.phrases is not None:
        trees, *apart = (_absolute(path, folder) for path in (settings.phrases.trees, *settings.phrases.apart_from))
        changes["phrases"] = settings.phrases.model_copy(update={"trees": trees, "apart_from": apart})
    if settings.augment is not None:
        options, files = settings.augment.options, augmentations.member(settings.augment.name).files
        options |= {option: _absolute(options[option], folder) for option in files if option in options}
        changes["augment"] = Member(name=settings.augment.name, **options)
    return changes


def _absolute(path: str, folder: Path) -> str:
    return path if path.startswith("hub:") else str((folder / Path(path).expanduser()).resolve())


def _with_extra(
    name: str, found: Mapping[str, Splits], recipe: Recipe, folder: Path, note: Callable[[str], None]
) -> Splits:
    settings, tables = recipe.tasks[name], found[name]
    extras: list[_Extra] = []  # all of them made before any is added: phrases are not copied
    if settings.phrases is not None:
        extras.append(_phrases(settings, tables, _dev_texts(found), folder))
    augmentation = new_augmentation(settings, folder)
    if augmentation is not None:
        kept = 1 if kind_of(settings).in_batch else 0
        extras.append(_copies(augmentation, tables.train, (recipe.seed, "augment", name), kept))
    for extra in extras:
        note(f"Task '{name}': {extra.note}")
        tables = replace(
            tables,
            train=_joined(tables.train, extra),
            others={**tables.others, **extra.fingerprints},
            extra={**tables.extra, **extra.counts},
        )
    return tables


def _joined(train: Examples, extra: _Extra) -> Examples:
    return replace(
        train,
        texts=[[*own, *more] for own, more in zip(train.texts, extra.texts, strict=True)],
        labels=[*train.labels, *extra.labels],
        ids=[*train.ids, *extra.ids],
        places=[*train.places, *extra.places],
    )


def _dev_texts(tables: Mapping[str, Splits]) -> Iterator[str]:
    """Yield every text of every task's dev table: encoders are shared, so what one task learns by, another profits from."""
    for table in tables.values():
        if table.all_of_dev is not None:
            yield from (text for column in table.all_of_dev.texts for text in column)


def _phrases(settings: TaskSettings, tables: Splits, dev: Iterable[str], folder: Path) -> _Extra:
    assert settings.phrases is not None
    bank = read_trees(str(source_of(settings.phrases.trees, folder)))
    apart = [_sentences(path, settings, folder) for path in settings.phrases.apart_from]
    held_out = [*dev, *(text for texts, _ in apart for text in texts)]
    phrases = choose_phrases(bank, known=tables.train.texts[0], held_out=held_out, min_words=settings.phrases.min_words)
    extra = _phrase_rows(phrases, bank, settings, tables)
    extra.fingerprints = {"phrases": bank.fingerprint}
    extra.fingerprints |= {f"apart_from {n}": print for n, (_, print) in enumerate(apart, 1)}
    return extra


def _phrase_rows(phrases: Phrases, bank: Treebank, settings: TaskSettings, tables: Splits) -> _Extra:
    kind = new_kind(settings, tables.labels or given_labels(settings))
    audit, extra = RowProblems(bank.name), _Extra([[]])
    for phrase in phrases.chosen:
        try:
            kind.encode(phrase.label)
        except ValueError as error:
            audit.add(phrase.line, None, f"the node '{phrase.label}' of \"{phrase.text[:60]}\": {error}")
            continue
        extra.add([phrase.text], phrase.label, f"phrase {phrase.line}.{phrase.node}", phrase.line)
    skipped = audit.stop_or_count(settings.bad_rows)
    extra.counts = {
        "phrases": len(extra.ids),
        "phrases_held_out": phrases.held_out,
        "phrases_known": phrases.known,
        "phrases_short": phrases.short,
        "phrases_skipped": skipped,
    }
    extra.note = (
        f"{len(extra.ids):,} phrases of {bank.name} are extra rows. Left out are {phrases.held_out:,} that occur in "
        f"dev's sentences (or in those to stay apart from), {phrases.known:,} that are rows of train already, "
        f"{phrases.short:,} too short, {skipped:,} with a label that the task does not have."
    )
    return extra


def _sentences(path: str, settings: TaskSettings, folder: Path) -> tuple[list[str], str]:
    """Return the sentences of a file of trees (.txt) or of a table, and its fingerprint."""
    source = source_of(path, folder)
    if path.endswith(".txt"):
        bank = read_trees(str(source))
        return [tree.sentence for tree in bank.trees], bank.fingerprint
    column = text_columns(settings)[0]
    table = read_table(source, [column], layout=layout_of(settings))
    return [cell for cell in table.columns[column] if cell], table.fingerprint


def _copies(augmentation: Augmentation, train: Examples, key: tuple[int | str, ...], kept: int) -> _Extra:
    """Return changed copies of rows; each row's first ``kept`` texts stay as they are.

    A pair to rank keeps its first text, so that the copy shares it with the pair that it comes from: neither is then a
    negative of the other. Of a single text that makes the text and its changed copy, which belong together.
    """
    extra = _Extra([[] for _ in train.texts], fingerprints=augmentation.fingerprints())
    same = 0
    for row, copy in ((row, copy) for row in range(len(train)) for copy in range(1, augmentation.copies + 1)):
        texts = [column[row] for column in train.texts]
        changed = texts[:kept] + list(_changed(texts, augmentation, (*key, train.ids[row], copy)))[kept:]
        if all(one.split() == other.split() for one, other in zip(texts, changed, strict=True)):
            same += 1
            continue
        extra.add(
            changed, train.labels[row] if train.labels else None, f"{train.ids[row]} copy {copy}", train.places[row]
        )
    extra.counts = {"copies": len(extra.ids), "copies_unchanged": same}
    extra.note = f"{len(extra.ids):,} changed copies are extra rows; {same:,} came out as they were and are left out."
    return extra


def _changed(texts: list[str], augmentation: Augmentation, key: tuple[int | str, ...]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield " ".join(augmentation.variant(text.split(), numpy_generator(*key, number)))
