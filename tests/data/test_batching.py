"""Batches of nearly equal length, every row once a pass, and the same whatever was asked before."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from polytask.data.batching import Cut, TaskStream, cut, padding_share

KEY = (0, "sst")
lengths_of_rows = st.lists(st.integers(1, 60), min_size=1, max_size=120).map(
    lambda found: np.array(found, dtype=np.int64)
)
cuts = st.builds(Cut, st.integers(1, 16), st.none() | st.integers(20, 300))


def realistic(rows: int = 8000) -> NDArray[np.int64]:
    """Return lengths like those of film reviews in SST: 4 to 66 tokens, 22 in the mean."""
    return np.clip(np.random.default_rng(0).gamma(4.2, 5.2, rows).astype(np.int64), 4, 66)


@given(lengths_of_rows, cuts, st.integers(0, 3))
def test_every_row_comes_exactly_once_a_pass(lengths: NDArray[np.int64], how: Cut, number: int) -> None:
    batches = TaskStream(lengths, how, KEY).batches(number)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(batch) for batch in batches)


@given(lengths_of_rows, cuts)
def test_batches_hold_neighbours_in_length(lengths: NDArray[np.int64], how: Cut) -> None:
    spans = sorted((int(lengths[b].min()), int(lengths[b].max())) for b in TaskStream(lengths, how, KEY).batches(0))
    assert all(below[1] <= above[0] for below, above in pairwise(spans))


@given(lengths_of_rows, st.integers(1, 16))
def test_batches_have_the_size_asked_for_but_for_one(lengths: NDArray[np.int64], rows: int) -> None:
    sizes = sorted(len(batch) for batch in TaskStream(lengths, Cut(rows), KEY).batches(0))
    assert set(sizes[1:]) <= {rows}
    assert 1 <= sizes[0] <= rows
    assert len(sizes) == -(-len(lengths) // rows)


@given(lengths_of_rows, st.integers(2, 16), st.none() | st.integers(20, 300))
def test_no_batch_is_shorter_than_the_least(lengths: NDArray[np.int64], rows: int, tokens: int | None) -> None:
    least = max(2, rows // 4)
    found = TaskStream(lengths, Cut(rows, tokens, least=least), KEY).batches(0)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    assert all(len(batch) >= min(least, len(lengths)) for batch in found)
    if tokens is None:
        assert all(len(batch) < rows + least for batch in found)
        long_enough = [len(batch) for batch in TaskStream(lengths, Cut(rows), KEY).batches(0) if len(batch) >= least]
        assert len(found) == max(len(long_enough), 1)


@given(lengths_of_rows, st.integers(20, 300))
def test_a_token_budget_is_obeyed_and_used(lengths: NDArray[np.int64], budget: int) -> None:
    order = np.argsort(lengths, kind="stable")
    batches = cut(order, lengths, Cut(4, budget))
    for number, batch in enumerate(batches):
        assert lengths[batch].sum() <= budget or len(batch) == 1
        if number + 1 < len(batches):
            assert lengths[batch].sum() + lengths[batches[number + 1][0]] > budget
    assert np.concatenate(batches).tolist() == order.tolist()


@given(lengths_of_rows, st.integers(1, 12), st.integers(0, 2))
def test_a_number_of_batches_is_kept_and_they_are_of_one_size(
    lengths: NDArray[np.int64], batches: int, number: int
) -> None:
    found = TaskStream(lengths, Cut(1, batches=batches), KEY).batches(number)
    sizes = [len(batch) for batch in found]
    assert len(sizes) == min(batches, len(lengths))
    assert max(sizes) - min(sizes) <= 1
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))


@pytest.mark.parametrize("how", [Cut(32), Cut(32, 800)])
def test_there_is_hardly_any_padding_on_realistic_lengths(how: Cut) -> None:
    lengths = realistic()
    for number in range(3):
        assert 0 <= padding_share(TaskStream(lengths, how, KEY).batches(number), lengths) <= 0.02


def test_the_padding_share_by_hand() -> None:
    lengths = np.array([4, 2, 3, 3])
    assert padding_share([np.array([0, 1]), np.array([2, 3])], lengths) == pytest.approx(2 / 14)
    assert padding_share([np.array([2, 3])], lengths) == 0.0


@pytest.mark.parametrize("how", [Cut(32), Cut(8, batches=100)])
def test_each_pass_is_cut_and_ordered_anew(how: Cut) -> None:
    lengths = realistic(3200)
    stream = TaskStream(lengths, how, KEY)
    first, second = ([frozenset(batch.tolist()) for batch in stream.batches(number)] for number in (0, 1))
    # Among the longest rows there is little choice of neighbours: a few batches there come again.
    assert len(set(first) & set(second)) < 0.1 * len(first)
    order = [lengths[batch].mean() for batch in stream.batches(0)]
    assert order != sorted(order)


def test_short_and_long_batches_come_in_no_order() -> None:
    lengths = realistic(6400)
    means = [lengths[batch].mean() for batch in TaskStream(lengths, Cut(32), KEY).batches(0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2


@given(st.integers(0, 2**31), st.permutations(range(12)))
def test_a_batch_is_the_same_whatever_was_asked_before(seed: int, order: list[int]) -> None:
    lengths = realistic(50)
    wanted = [TaskStream(lengths, Cut(16), (seed, "a")).batch(cursor).tolist() for cursor in range(12)]
    stream = TaskStream(lengths, Cut(16), (seed, "a"))
    assert {cursor: stream.batch(cursor).tolist() for cursor in order} == dict(enumerate(wanted))


@pytest.mark.parametrize("how", [Cut(16), Cut(16, 150)])
def test_the_cursor_counts_over_all_passes(how: Cut) -> None:
    stream = TaskStream(realistic(50), how, KEY, sample=30)
    one_by_one = [batch.tolist() for number in range(4) for batch in stream.batches(number)]
    fresh = TaskStream(realistic(50), how, KEY, sample=30)
    assert [fresh.batch(cursor).tolist() for cursor in range(len(one_by_one))] == one_by_one


def test_another_key_gives_another_order() -> None:
    lengths = realistic(200)
    found = {tuple(TaskStream(lengths, Cut(16), key).batch(0).tolist()) for key in ((0, "a"), (1, "a"), (0, "b"))}
    assert len(found) == 3


def test_a_sample_is_drawn_anew_each_pass_without_repeats() -> None:
    stream = TaskStream(realistic(100), Cut(8), KEY, sample=30)
    passes = [np.concatenate(stream.batches(number)).tolist() for number in range(40)]
    assert all(len(set(rows)) == 30 for rows in passes)
    assert set(passes[0]) != set(passes[1])
    assert {row for rows in passes for row in rows} == set(range(100))
    assert stream.per_pass == 4


def test_a_sample_larger_than_the_table_is_the_table() -> None:
    stream = TaskStream(realistic(10), Cut(4), KEY, sample=99)
    assert sorted(np.concatenate(stream.batches(0)).tolist()) == list(range(10))


def test_old_passes_are_let_go() -> None:
    stream = TaskStream(realistic(50), Cut(16), KEY)
    for cursor in range(100):
        stream.batch(cursor)
    assert len(stream._passes) <= 2
