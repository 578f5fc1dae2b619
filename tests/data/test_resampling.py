"""Groups come up equally often in a pass, no row more often than it must, and another pass draws others."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from polytask.data.batching import Cut, TaskStream
from polytask.data.resampling import Evened, Oversampled, Undersampled

groups_of_rows = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(lambda found: np.array(found, dtype=np.int64))
members = st.sampled_from([Oversampled, Undersampled])


def stream(draw: Evened, groups: NDArray[np.int64], how: Cut | None = None, key: str = "a") -> TaskStream:
    lengths = 4 + np.random.default_rng(0).integers(0, 40, len(groups))
    return TaskStream(lengths, how or Cut(8), (0, "data", 0, key), None, draw)


def rows_of(made: TaskStream, number: int) -> list[int]:
    return [int(row) for row in np.concatenate(made.batches(number))]


@given(groups_of_rows, members, st.integers(0, 3))
def test_every_group_comes_up_equally_often(groups: NDArray[np.int64], member: type[Evened], number: int) -> None:
    sizes = Counter(groups.tolist())
    size = max(sizes.values()) if member is Oversampled else min(sizes.values())
    found = Counter(groups[rows_of(stream(member(groups), groups), number)].tolist())
    assert found == dict.fromkeys(sizes, size)


@given(groups_of_rows)
def test_oversampling_shows_every_row_and_repeats_them_evenly(groups: NDArray[np.int64]) -> None:
    counts = Counter(rows_of(stream(Oversampled(groups), groups), 0))
    assert set(counts) == set(range(len(groups)))
    sizes = Counter(groups.tolist())
    for row, count in counts.items():
        assert count - max(sizes.values()) // sizes[int(groups[row])] in (0, 1)


@given(groups_of_rows, st.integers(1, 80))
def test_undersampling_never_repeats_a_row(groups: NDArray[np.int64], sample: int) -> None:
    assert max(Counter(rows_of(stream(Undersampled(groups, sample), groups), 0)).values()) == 1


@given(groups_of_rows, members, st.integers(1, 80))
def test_a_sample_is_shared_out_evenly(groups: NDArray[np.int64], member: type[Evened], sample: int) -> None:
    whole = len(rows_of(stream(member(groups), groups), 0))
    rows = rows_of(stream(member(groups, sample), groups), 0)
    assert len(rows) == min(sample, whole)
    found = Counter(groups[rows].tolist())
    each = [found[group] for group in set(groups.tolist())]
    assert max(each) - min(each) <= 1


def test_a_sample_repeats_no_row_where_there_are_enough() -> None:
    groups = np.array([0] * 90 + [1] * 10)
    counts = Counter(rows_of(stream(Oversampled(groups, 40), groups), 0))
    assert all(counts[row] <= 1 for row in range(90))
    assert [counts[row] for row in range(90, 100)] == [2] * 10


@pytest.mark.parametrize("member", [Oversampled, Undersampled])
def test_each_pass_draws_anew_and_shows_all_rows_in_the_long_run(member: type[Evened]) -> None:
    groups = np.array([0] * 600 + [1] * 250)
    made = stream(member(groups), groups)
    passes = [sorted(rows_of(made, number)) for number in range(20)]
    assert passes[0] != passes[1]
    assert {row for rows in passes for row in rows} == set(range(850))
    # the rows of a rare class do not always meet the same others
    company = {frozenset(batch.tolist()) for number in range(6) for batch in made.batches(number)}
    assert len(company) > 0.9 * 6 * made.per_pass


@pytest.mark.parametrize("member", [Oversampled, Undersampled])
def test_a_pass_is_derived_from_its_key_alone(member: type[Evened]) -> None:
    groups = np.array([0] * 30 + [1] * 12 + [2] * 5)
    wanted = [rows_of(stream(member(groups), groups), number) for number in range(4)]
    made = stream(member(groups), groups)
    assert [rows_of(made, number) for number in (3, 1, 0, 2)] == [wanted[number] for number in (3, 1, 0, 2)]
    assert rows_of(stream(member(groups), groups, key="b"), 0) != wanted[0]


def test_every_row_of_a_group_is_drawn_equally_often() -> None:
    groups = np.array([0] * 20 + [1] * 8)
    draw = Oversampled(groups)
    counts = np.zeros(28)
    for seed in range(3000):
        np.add.at(counts, draw(np.random.default_rng(seed)), 1)
    # of the rare class 2 whole rounds and 4 of 8 rows: 2.5 times each; variance of the draw 1/4
    assert np.abs(counts[:20] - 3000).max() == 0
    assert np.abs(counts[20:] - 7500).max() < 5 * np.sqrt(3000 / 4)
