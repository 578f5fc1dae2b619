"""Dev rows are drawn once for all tasks: no text on both sides, each label its share, no row lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.data.tables.examples import Examples
from polytask.data.tables.splitting import Asked, hold_out, shared_texts
from polytask.errors import TableError


def made(texts: Sequence[str | tuple[str, ...]], labels: Sequence[str] = ()) -> Examples:
    rows = [(text,) if isinstance(text, str) else text for text in texts]
    columns = [list(column) for column in zip(*rows, strict=True)]
    return Examples("t.csv", columns, labels, [str(n) for n in range(len(rows))], range(len(rows)), "row", 0, "")


def asked(data: Examples, share: float, mark: str | None = None) -> Asked:
    return Asked(data, share, [label.split(mark) if mark else [label] for label in data.labels] or [()] * len(data))


def held(data: Examples, share: float, *key: int | str, mark: str | None = None) -> list[int]:
    (halves,) = hold_out([asked(data, share, mark)], *key)
    assert sorted(halves.train + halves.dev) == list(range(len(data)))
    assert (halves.train, halves.dev) == (sorted(halves.train), sorted(halves.dev))
    return halves.dev


UNEVEN = made([f"text {n}" for n in range(400)], ["rare" if n % 20 == 0 else "common" for n in range(400)])


def test_each_label_has_its_share() -> None:
    assert Counter(UNEVEN.labels[row] for row in held(UNEVEN, 0.25, 0)) == {"rare": 5, "common": 95}


def test_the_draw_follows_its_key() -> None:
    assert held(UNEVEN, 0.25, 0) == held(UNEVEN, 0.25, 0) != held(UNEVEN, 0.25, 1)


def test_few_rows_a_class_have_the_share_between_them() -> None:
    data = made([f"text {n}" for n in range(200)], [str(n // 4) for n in range(200)])
    dev = held(data, 0.1, 0)
    assert len(dev) == 20
    assert max(Counter(data.labels[row] for row in dev).values()) == 1


def test_equal_texts_lie_on_one_side_whatever_their_case_and_label() -> None:
    texts = [f"{' Text' if n % 2 else 'text'} {n // 4}" for n in range(200)]
    data = made(texts, [str(n % 2) for n in range(200)])
    dev = {texts[row].strip().lower() for row in held(data, 0.3, 0)}
    assert len(dev) == 15
    assert sum(text.strip().lower() in dev for text in texts) == 60


def test_every_label_of_many_has_its_share() -> None:
    draw = random.Random(0)
    cells = [";".join(sorted(draw.sample("abcdefgh", draw.choice([1, 1, 2, 3])))) for _ in range(600)]
    data = made([f"text {n}" for n in range(600)], cells)
    dev = held(data, 0.2, 0, mark=";")
    assert len(dev) == pytest.approx(120, abs=6)
    for label in "abcdefgh":
        has = [label in cell for cell in cells]
        assert sum(has[row] for row in dev) == pytest.approx(0.2 * sum(has), abs=4)


def test_no_text_is_on_both_sides_whichever_task_reads_it() -> None:
    texts = [f"text {n}" for n in range(120)]
    one, two = made(texts, [str(n % 2) for n in range(120)]), made(texts[::-1], [str(n % 3) for n in range(120)])
    other = made(texts[60:] + [f"more {n}" for n in range(100)], ["0", "1"] * 80)
    tables = [one, two, other]
    halves = hold_out([asked(table, 0.2) for table in tables], 0)
    dev = {table.texts[0][row] for table, half in zip(tables, halves, strict=True) for row in half.dev}
    train = {table.texts[0][row] for table, half in zip(tables, halves, strict=True) for row in half.train}
    assert not dev & train
    assert [len(half.dev) / len(table) for table, half in zip(tables, halves, strict=True)] == pytest.approx(
        [0.2] * 3, abs=0.06
    )


def test_either_text_of_a_pair_holds_rows_together() -> None:
    data = made([(f"q{n // 3}", f"answer {n}") for n in range(150)] + [("answer 7", "q49")], ["0", "1"] * 75 + ["0"])
    dev = held(data, 0.2, 0)
    sides = {text: row in dev for row in range(len(data)) for text in (column[row] for column in data.texts)}
    assert all(sides[column[row]] == (row in dev) for row in range(len(data)) for column in data.texts)
    assert len(dev) == pytest.approx(30, abs=3)


def test_where_one_text_is_in_all_pairs_both_together_count() -> None:
    data = made([("the query", f"answer {n // 2}") for n in range(100)], ["0", "1"] * 50)
    (halves,) = hold_out([asked(data, 0.2)], 0)
    assert halves.whole_pairs
    assert len(halves.dev) == 20
    answers = [{data.texts[1][row] for row in side} for side in (halves.train, halves.dev)]
    assert not answers[0] & answers[1]


def test_without_labels_the_share_is_that_of_the_rows() -> None:
    assert len(held(made([f"text {n}" for n in range(200)]), 0.1, 0)) == 20


@pytest.mark.parametrize(("share", "side"), [(0.1, "dev"), (0.9, "train")])
def test_a_share_that_leaves_one_side_empty_is_refused(share: float, side: str) -> None:
    with pytest.raises(TableError, match=rf"t\.csv has 4 rows: a dev share of {share} leaves none for {side}"):
        held(made(["a", "b", "c", "d"], ["0", "1", "2", "3"]), share, 0)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), min_size=30, max_size=120),
    share=st.sampled_from([0.1, 0.2, 0.5]),
    seed=st.integers(0, 5),
)
def test_whatever_the_rows_the_share_is_near(rows: list[tuple[int, int]], share: float, seed: int) -> None:
    data = made([f"text {text}" for text, _ in rows], [str(label) for _, label in rows])
    largest = max(Counter(text for text, _ in rows).values())
    try:
        dev = held(data, share, seed)
    except TableError:
        assert largest > share * len(rows) / 2
        return
    assert abs(len(dev) - share * len(rows)) <= 2 * largest


def test_rows_that_a_given_dev_table_shares_are_counted() -> None:
    train, dev = made(["One", "two", "three"]), made([" one", "four", "TWO"])
    assert shared_texts(train, dev) == 2
    assert shared_texts(made([("a", "b"), ("c", "d")]), made([("b", "a"), ("a", "x"), ("c", "c")])) == 2
