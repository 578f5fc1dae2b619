"""The tables that polytask writes itself: distinct, balanced, repeatable, and not to be solved by counting words."""

from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from polytask.starter.examples import FUNCTION_WORDS, SENTIMENT_LABELS, SPLITS, TABLES, Row, Split, write_examples
from polytask.starter.examples import paraphrase as paraphrase_grammar
from polytask.starter.examples import sentiment as sentiment_grammar
from polytask.starter.examples import similarity as similarity_grammar
from polytask.starter.examples.events import PARTS, changed, event
from polytask.starter.examples.grammar import distinct, sentence, words
from polytask.starter.examples.lexicon import SCENES

LABELS = {"sentiment": "sentiment", "paraphrase": "is_duplicate", "similarity": "similarity"}
ROWS = {task: {split: rows(split, 0) for split in SPLITS} for task, rows in TABLES.items()}

every_task = pytest.mark.parametrize("task", sorted(TABLES))
every_split = pytest.mark.parametrize("split", SPLITS)


def texts(row: Row) -> tuple[str, ...]:
    return tuple(str(row[key]) for key in ("sentence", "sentence1", "sentence2") if key in row)


def labels(task: str, split: Split) -> np.ndarray:
    return np.array([float(row[LABELS[task]]) for row in ROWS[task][split]])


def sentences(task: str, split: Split) -> set[str]:
    return {text for row in ROWS[task][split] for text in texts(row)}


def vocabulary(split: Split) -> set[str]:
    return {word for task in TABLES for text in sentences(task, split) for word in words(text)}


@every_task
@every_split
def test_rows_are_distinct_and_enough(task: str, split: Split) -> None:
    rows = ROWS[task][split]
    assert len({frozenset(texts(row)) for row in rows}) >= 0.98 * len(rows)
    assert len({texts(row) for row in rows}) == len(rows)
    assert len(rows) in (range(500, 701) if split == "train" else range(150, 201))
    assert len(sentences(task, split)) >= 0.9 * len(rows)


@every_task
@every_split
def test_ids_number_the_rows(task: str, split: Split) -> None:
    assert [row["id"] for row in ROWS[task][split]] == [
        f"{task}-{split}-{i:04d}" for i in range(len(ROWS[task][split]))
    ]


@every_task
@every_split
def test_texts_are_short_sentences(task: str, split: Split) -> None:
    for text in sentences(task, split):
        assert 3 <= len(text.split()) <= 20
        assert text[0].isupper()
        assert text.endswith(".")
        assert not any(mark in text for mark in "{}")


@every_task
@every_split
def test_no_pair_repeats_one_sentence(task: str, split: Split) -> None:
    if task == "paraphrase":
        assert all(row["sentence1"] != row["sentence2"] for row in ROWS[task][split])


@every_task
@every_split
def test_rows_follow_from_the_seed_alone(task: str, split: Split) -> None:
    random.seed(1)
    assert TABLES[task](split, 0) == ROWS[task][split]
    assert TABLES[task](split, 1) != ROWS[task][split]


@every_task
def test_no_train_sentence_in_dev(task: str) -> None:
    assert not sentences(task, "train") & sentences(task, "dev")


@pytest.mark.parametrize("seed", range(3))
def test_dev_shares_function_words_with_train_and_nothing_else(seed: int) -> None:
    """Over all tasks together, for they are trained together."""
    shared = set.intersection(
        *(
            {
                word
                for rows in TABLES.values()
                for row in rows(split, seed)
                for text in texts(row)
                for word in words(text)
            }
            for split in SPLITS
        )
    )
    assert shared <= FUNCTION_WORDS


def test_templates_are_disjoint() -> None:
    labelled = sentiment_grammar.TEMPLATES
    assert not {t for group in labelled["train"] for t in group} & {t for group in labelled["dev"] for t in group}
    for frames in (paraphrase_grammar.FRAMES, similarity_grammar.FRAMES):
        train, dev = ({t for group in frames[split].values() for t in group} for split in SPLITS)
        assert not train & dev


@every_split
def test_classes_are_equally_frequent(split: Split) -> None:
    sentiment = Counter(labels("sentiment", split))
    assert set(sentiment) == set(range(len(SENTIMENT_LABELS)))
    assert len(set(sentiment.values())) == 1
    paraphrase = Counter(labels("paraphrase", split))
    assert paraphrase[0.0] == paraphrase[1.0]


@every_split
def test_scores_fill_their_range(split: Split) -> None:
    scores = labels("similarity", split)
    assert scores.min() == 0.0
    assert scores.max() == 5.0
    assert 1.5 < scores.mean() < 3.0
    assert np.histogram(scores, bins=5, range=(0, 5))[0].min() >= 0.1 * len(scores)
    assert (np.round(scores, 1) == scores).all()


def test_order_decides_between_the_same_words() -> None:
    """Some dev pairs of label 0 hold the same bag of words twice."""
    bags = [[sorted(text.lower().rstrip(".").split()) for text in texts(row)] for row in ROWS["paraphrase"]["dev"]]
    same = [
        row["is_duplicate"]
        for row, (first, second) in zip(ROWS["paraphrase"]["dev"], bags, strict=True)
        if first == second
    ]
    assert same.count(0) >= 1


def test_people_trade_places() -> None:
    rng = random.Random(0)
    scene = SCENES["dev"][-1]
    first = event("dev", scene, rng)
    second = changed(first, ("agent", "object"), "dev", rng)
    assert (second.agent, second.object) == (first.object, first.agent)
    assert (second.action, second.place) == (first.action, first.place)


@every_split
@pytest.mark.parametrize("part", PARTS)
def test_one_changed_part_is_the_only_one(split: Split, part: str) -> None:
    rng = random.Random(0)
    for scene in SCENES[split]:
        first = event(split, scene, rng)
        second = changed(first, (part,), split, rng)
        assert [name for name in PARTS if getattr(first, name) != getattr(second, name)] == [part]
        assert second.agent != second.object
        assert similarity_grammar.score(first, second) == 5.0 - similarity_grammar.WEIGHTS[part]


def test_sentences_are_written_as_a_person_would() -> None:
    assert sentence("what a {great} {noun}", {"great": "awesome", "noun": "film"}) == "What an awesome film."


def test_an_exhausted_grammar_says_so() -> None:
    with pytest.raises(ValueError, match="no new row after 1 of 2"):
        distinct(2, lambda index: "always the same")


CEILINGS = {"sentiment": 0.32, "paraphrase": 0.60, "similarity": 0.52}
"""Dev accuracy, accuracy and Pearson that a bag of words must stay under; measured 0.261, 0.544 and 0.465.

A fine-tuned MiniLM reached 0.68, 0.83 and 0.84 on the same rows.
"""


def features(counts: CountVectorizer, rows: list[Row]) -> np.ndarray:
    columns = [counts.transform(column).toarray() for column in zip(*map(texts, rows), strict=True)]
    if len(columns) == 1:
        return np.asarray(columns[0])
    first, second = columns
    return np.concatenate([abs(first - second), np.minimum(first, second)], axis=1)


@every_task
def test_a_bag_of_words_learns_little(task: str) -> None:
    train, dev = ROWS[task]["train"], ROWS[task]["dev"]
    counts = CountVectorizer(token_pattern=r"\b\w+\b").fit(sorted(sentences(task, "train")))
    model = Ridge() if task == "similarity" else LogisticRegression(max_iter=2000)
    model.fit(features(counts, train), labels(task, "train"))
    predicted = model.predict(features(counts, dev))
    truth = labels(task, "dev")
    reached = np.corrcoef(predicted, truth)[0, 1] if task == "similarity" else (predicted == truth).mean()
    assert reached < CEILINGS[task]


def test_csv_round_trip(tmp_path: Path) -> None:
    paths = write_examples(tmp_path / "new" / "folder")
    assert sorted(paths) == sorted(f"{task}-{split}" for task in TABLES for split in SPLITS)
    for task in TABLES:
        for split in SPLITS:
            path = paths[f"{task}-{split}"]
            assert path.name == f"{task}-{split}.csv"
            with path.open(encoding="utf-8", newline="") as file:
                read = list(csv.DictReader(file))
            assert read == [{key: str(value) for key, value in row.items()} for row in ROWS[task][split]]


def test_columns_are_those_of_the_presets() -> None:
    assert list(ROWS["sentiment"]["train"][0]) == ["id", "sentence", "sentiment"]
    assert list(ROWS["paraphrase"]["train"][0]) == ["id", "sentence1", "sentence2", "is_duplicate"]
    assert list(ROWS["similarity"]["train"][0]) == ["id", "sentence1", "sentence2", "similarity"]


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_examples(tmp_path / "a", seed=3), write_examples(tmp_path / "b", seed=3)
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in first)
