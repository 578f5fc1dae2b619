"""Masked tokens: as often as the paper says, never a special one, the same for the same key. Shapes: N texts, K masked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.masking import NO_LABEL, Masking
from polytask.data.rows import Layout, TaskRows
from polytask.data.tokens import Tokenizer, tokenize
from polytask.packing import RowBatch

WORDS = [f"w{number}" for number in range(200)]
TOKENIZER = Tokenizer.from_texts([" ".join(WORDS)], vocabulary=500)
MASK = TOKENIZER.mask or 0


def table(lengths: list[int], rate: float = 0.15) -> TaskRows:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, length)) for length in lengths]
    layout = Layout(TOKENIZER, 512, ask=Masking(MASK, TOKENIZER.ordinary(), rate))
    ids = [str(row) for row in range(len(texts))]
    return TaskRows(layout, (tokenize(texts, TOKENIZER),), ids, torch.zeros(len(texts)))


def clean(rows: TaskRows, batch: RowBatch) -> torch.Tensor:
    """Return the ids of a batch's rows before anything was masked."""
    plain = TaskRows(Layout(TOKENIZER, 512), rows.columns, rows.ids)
    return plain.pack(list(batch.rows)).streams[0].ids_P


def asked(batch: RowBatch) -> torch.Tensor:
    """Return the places that are asked for, each once."""
    (stream,) = batch.streams
    assert stream.asked_NK is not None
    assert batch.labels_N is not None
    return stream.asked_NK[batch.labels_N != NO_LABEL]


def test_rates_over_many_draws() -> None:
    rows = table([30, 47, 61, 100])
    masked, kept, replaced, ordinary = 0, 0, 0, 0
    for draw in range(400):
        batch = rows.pack(range(4), (draw,))
        before_P, after_P = clean(rows, batch), batch.streams[0].ids_P
        places = asked(batch)
        ordinary += 30 + 47 + 61 + 100
        masked += int((after_P[places] == MASK).sum())
        kept += int((after_P[places] == before_P[places]).sum())
        replaced += int(((after_P[places] != before_P[places]) & (after_P[places] != MASK)).sum())
    total = masked + kept + replaced
    assert total / ordinary == pytest.approx(0.15, abs=0.001)  # rounded up or down at random: nearly exact
    assert masked / total == pytest.approx(0.8, abs=0.01)
    assert kept / total == pytest.approx(0.1, abs=0.01)
    assert replaced / total == pytest.approx(0.1, abs=0.01)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    rate=st.floats(0.01, 0.9),
    key=st.integers(0, 10**6),
)
def test_labels_are_the_tokens_that_were_there_and_nothing_else_has_changed(
    lengths: list[int], rate: float, key: int
) -> None:
    rows = table(lengths, rate)
    batch = rows.pack(range(len(lengths)), (key,))
    (stream,) = batch.streams
    assert batch.labels_N is not None
    assert stream.asked_NK is not None
    assert batch.labels_N.shape == stream.asked_NK.shape
    before_P, places = clean(rows, batch), asked(batch)
    assert torch.equal(batch.labels_N[batch.labels_N != NO_LABEL], before_P[places])
    assert len({*places.tolist()}) == len(places)
    untouched_P = torch.ones(len(before_P), dtype=torch.bool)
    untouched_P[places] = False
    assert torch.equal(stream.ids_P[untouched_P], before_P[untouched_P])
    ordinary = torch.from_numpy(TOKENIZER.ordinary())
    assert torch.isin(before_P[places], ordinary).all()  # no special token is asked for, and none is put in
    assert torch.isin(stream.ids_P[places], torch.cat([ordinary, torch.tensor([MASK])])).all()


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_every_text_is_asked_for_its_own_tokens_and_for_one_at_least(lengths: list[int]) -> None:
    rows = table(lengths)
    batch = rows.pack(range(len(lengths)), (1,))
    (stream,) = batch.streams
    assert batch.labels_N is not None
    assert stream.asked_NK is not None
    bounds = stream.bounds()
    for text in range(len(lengths)):
        assert (stream.asked_NK[text] >= bounds[text]).all()
        assert (stream.asked_NK[text] < bounds[text + 1]).all()
        assert (batch.labels_N[text] != NO_LABEL).any()


def test_a_rows_mask_hangs_on_its_key_and_not_on_the_rows_beside_it() -> None:
    rows = table([20] * 8)
    whole = rows.pack(range(8), (3, "task")).streams[0].ids_P.view(8, 22)
    again = rows.pack(range(8), (3, "task")).streams[0].ids_P.view(8, 22)
    other = rows.pack(range(8), (4, "task")).streams[0].ids_P.view(8, 22)
    assert torch.equal(whole, again)
    assert not torch.equal(whole, other)
    assert torch.equal(rows.pack([5], (3, "task")).streams[0].ids_P, whole[5])
    assert len({tuple((row == MASK).tolist()) for row in whole}) > 1  # rows are not masked alike


def test_a_text_without_ordinary_tokens_is_asked_for_nothing() -> None:
    rows = table([5, 5])
    unknown = TaskRows(rows.layout, (tokenize(["zz yy", "w1 w2"], TOKENIZER),), ["0", "1"], torch.zeros(2))
    batch = unknown.pack([0, 1])
    assert batch.labels_N is not None
    assert (batch.labels_N[0] == NO_LABEL).all()
    assert (batch.labels_N[1] != NO_LABEL).any()
    assert torch.equal(batch.streams[0].ids_P[:4], clean(unknown, batch)[:4])


def test_the_ordinary_tokens_are_all_but_the_special_ones() -> None:
    names = {TOKENIZER.core.id_to_token(int(token)) for token in TOKENIZER.ordinary()}
    assert names == set(WORDS)
    assert TOKENIZER.core.id_to_token(MASK) == "[MASK]"
    assert Tokenizer.from_json(TOKENIZER.json).ordinary().tolist() == TOKENIZER.ordinary().tolist()
