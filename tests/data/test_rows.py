"""Rows become packed batches: for one text, for two in one input, and for two apart. Shapes: N rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polytask.data.rows import Layout, TaskRows
from polytask.data.tokens import Tokenizer, tokenize
from polytask.packing import PackedBatch

WORDS = [f"w{number}" for number in range(40)]
TOKENIZER = Tokenizer.from_texts([" ".join(WORDS)], vocabulary=100)
MAX_LENGTH = 12
MODES = ("single", "cross", "bi")
ROWS = 25


def texts(seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(1, 15))) for _ in range(ROWS)]


def table(mode: str, *, types: bool = True, labelled: bool = True) -> TaskRows:
    columns = tuple(tokenize(texts(seed), TOKENIZER) for seed in range(1 if mode == "single" else 2))
    labels_N = torch.arange(ROWS) * 10 if labelled else None
    layout = Layout(TOKENIZER, MAX_LENGTH, separate=mode == "bi", types=types)
    return TaskRows(layout, columns, [f"id{row}" for row in range(ROWS)], labels_N)


def inputs(stream: PackedBatch, part: Tensor | None = None) -> list[list[int]]:
    """Return each text's ids (or another part of a stream), in the order of the stream."""
    bounds = stream.bounds().tolist()
    values = (stream.ids_P if part is None else part).tolist()
    return [values[start:end] for start, end in pairwise(bounds)]


rows_asked_for = st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS)


@pytest.mark.parametrize("mode", MODES)
@given(rows=rows_asked_for)
def test_a_batch_holds_each_rows_own_input_and_label(mode: str, rows: list[int]) -> None:
    data = table(mode)
    batch = data.pack(rows)
    assert sorted(batch.rows) == sorted(rows)
    assert batch.labels_N is not None
    assert batch.labels_N.tolist() == [10 * row for row in batch.rows]
    assert len(batch.streams) == (2 if mode == "bi" else 1)
    for place, stream in enumerate(batch.streams):
        columns = [data.columns[place]] if mode == "bi" else data.columns
        wanted = [TOKENIZER.join([column[row] for column in columns], MAX_LENGTH)[0].tolist() for row in batch.rows]
        found = inputs(stream)
        assert found == wanted if stream.order_N is None else [found[at] for at in stream.order_N.tolist()] == wanted
        assert (stream.order_N is not None) == (mode == "bi")


@pytest.mark.parametrize("mode", MODES)
@given(rows=rows_asked_for)
def test_a_stream_runs_from_short_to_long(mode: str, rows: list[int]) -> None:
    for stream in table(mode).pack(rows).streams:
        assert list(stream.lengths) == sorted(stream.lengths)
        assert len(stream.runs) == len(set(stream.lengths))
        assert stream.longest <= MAX_LENGTH


@pytest.mark.parametrize("mode", MODES)
def test_the_stated_lengths_are_those_that_packing_makes(mode: str) -> None:
    data = table(mode)
    for row in range(ROWS):
        assert data.pack([row]).tokens == data.lengths[row]
    assert data.pack(range(ROWS)).tokens == data.lengths.sum()


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_are_cut_are_counted(mode: str) -> None:
    data = table(mode)
    long = Layout(TOKENIZER, 500, separate=mode == "bi")
    whole = TaskRows(long, data.columns, data.ids)
    wanted = sum(whole.pack([row]).tokens != data.pack([row]).tokens for row in range(ROWS))
    assert data.truncated == wanted
    assert 0 < wanted < ROWS
    assert whole.truncated == 0


def test_token_types_tell_two_joined_texts_apart_unless_left_out() -> None:
    (stream,) = table("cross").pack(range(ROWS)).streams
    for ids, types in zip(inputs(stream), inputs(stream, stream.types_P), strict=True):
        end = ids.index(3) + 1  # [SEP]
        assert types == [0] * end + [1] * (len(ids) - end)
    assert not table("cross", types=False).pack(range(ROWS)).streams[0].types_P.any()
    assert not any(stream.types_P.any() for stream in table("bi").pack(range(ROWS)).streams)


@pytest.mark.parametrize("mode", MODES)
def test_positions_count_from_zero_in_each_text(mode: str) -> None:
    for stream in table(mode).pack(range(ROWS)).streams:
        assert all(places == list(range(len(places))) for places in inputs(stream, stream.positions_P))


def test_rows_without_labels_can_be_packed() -> None:
    assert table("single", labelled=False).pack([3, 1]).labels_N is None


def test_a_table_is_as_long_as_its_columns() -> None:
    assert len(table("cross")) == ROWS


# -- both orders of a pair ---------------------------------------------------------------------------------------------


def both(max_length: int = MAX_LENGTH) -> TaskRows:
    columns = tuple(tokenize(texts(seed), TOKENIZER) for seed in range(2))
    return TaskRows(Layout(TOKENIZER, max_length, both=True), columns, [f"id{row}" for row in range(ROWS)])


@given(rows=rows_asked_for)
def test_a_symmetric_pair_goes_in_twice_one_order_beside_the_other(rows: list[int]) -> None:
    data = both(max_length=500)
    batch = data.pack(rows)
    (stream,) = batch.streams
    found = inputs(stream)
    assert len(found) == 2 * len(rows)
    assert list(stream.lengths) == sorted(stream.lengths)
    for place, row in enumerate(batch.rows):
        a, b = (column[row] for column in data.columns)
        wanted = [TOKENIZER.join(pair, 500)[0].tolist() for pair in ([a, b], [b, a])]
        assert sorted(found[2 * place : 2 * place + 2]) == sorted(wanted)
        assert data.lengths[row] == 2 * len(wanted[0])


@pytest.mark.parametrize("max_length", [11, 12])
def test_both_orders_of_a_symmetric_pair_are_cut_alike(max_length: int) -> None:
    data = both(max_length)
    assert data.truncated > ROWS / 4
    for row in range(ROWS):
        (stream,) = data.pack([row]).streams
        first, second = inputs(stream)
        assert sorted(first) == sorted(second)
        assert len(first) <= max_length
        assert sum(stream.lengths) == data.lengths[row]
        assert split(first) == split(second)[::-1]


def split(ids: list[int]) -> list[list[int]]:
    end = ids.index(3)  # [SEP]
    return [ids[1:end], ids[end + 1 : -1]]


@given(rows=rows_asked_for)
def test_exchanging_the_texts_of_symmetric_pairs_leaves_a_batch_as_it_is(rows: list[int]) -> None:
    given, swapped = both().pack(rows), both().swapped().pack(rows)
    assert given.rows == swapped.rows
    for part in ("ids_P", "types_P", "positions_P"):
        assert torch.equal(getattr(given.streams[0], part), getattr(swapped.streams[0], part))


@pytest.mark.parametrize("mode", ["cross", "bi"])
def test_swapped_rows_have_the_second_text_first(mode: str) -> None:
    data, swapped = table(mode), table(mode).swapped()
    for row in range(ROWS):
        texts_of = [[column[row].tolist() for column in rows.columns] for rows in (data, swapped)]
        assert texts_of[0] == texts_of[1][::-1]
    assert swapped.labels_N is not None
    assert torch.equal(swapped.labels_N, torch.arange(ROWS) * 10)


@pytest.mark.parametrize("room", [1, 2, 5, 14, 50])
def test_texts_in_pieces_lose_no_token_and_are_never_cut(room: int) -> None:
    whole = replace(table("single"), layout=Layout(TOKENIZER, room + 2))
    pieces = whole.in_pieces()
    assert pieces.truncated == 0
    assert pieces.labels_N is not None
    together: dict[str, list[int]] = {}
    for row, name in enumerate(pieces.ids):
        together.setdefault(name, []).extend(pieces.columns[0][row].tolist())
        assert f"id{int(pieces.labels_N[row]) // 10}" == name
    assert together == {f"id{row}": whole.columns[0][row].tolist() for row in range(ROWS)}


def test_pieces_are_as_few_as_can_be_and_nearly_equally_long() -> None:
    column = tokenize([" ".join(WORDS[:length]) for length in (0, 1, 7, 8, 9, 22)], TOKENIZER)
    pieces, owners = column.pieces(8)
    assert owners.tolist() == [0, 1, 2, 3, 4, 4, 5, 5, 5]
    assert pieces.lengths.tolist() == [0, 1, 7, 8, 4, 5, 7, 7, 8]
