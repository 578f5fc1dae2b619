"""Packed and padded are the same thing. Shapes: N texts, P tokens, L tokens of the longest text, D width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polytask.packing import EncoderOutput, PackedBatch, PackedTokens, PaddedTokens, RowBatch, Run, Tokens, runs_of

WIDTH = 5
Lengths = list[int]
ragged = st.lists(st.integers(1, 7), min_size=1, max_size=9)

REDUCTIONS: dict[str, Callable[[Tokens, Tensor], Tensor]] = {
    "first": lambda tokens, query_ND: tokens.first(),
    "last": lambda tokens, query_ND: tokens.last(),
    "sum": lambda tokens, query_ND: tokens.sum(),
    "max": lambda tokens, query_ND: tokens.max(),
    "mean": lambda tokens, query_ND: tokens.sum() / tokens.lengths_N.unsqueeze(1),
    "attention to a vector for each text": lambda t, query_ND: t.sum(t.softmax(t.dot(query_ND))),
    "sum of the rest": lambda tokens, query_ND: tokens.sum(tokens.rest()),
    "attention to one vector": lambda t, query_ND: t.sum(t.softmax(t.dot(query_ND[0]))),
}


def texts_of(lengths: Lengths, stream: Tensor) -> list[Tensor]:
    """Return each text's own part of a stream."""
    ends = np.cumsum(lengths).tolist()
    return [stream[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def both_forms(lengths: Lengths, hidden_PD: Tensor, filling: float = 0.0) -> tuple[PackedTokens, PaddedTokens]:
    """Return the same tokens packed, and padded with ``filling``."""
    texts = texts_of(lengths, hidden_PD)
    longest = max(lengths)
    blocks = [torch.cat([text, text.new_full((longest - len(text), hidden_PD.shape[1]), filling)]) for text in texts]
    mask_NL = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return PackedTokens(hidden_PD, runs_of(lengths)), PaddedTokens(torch.stack(blocks), mask_NL)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(ragged)
def test_runs_are_the_groups_of_equal_neighbours(lengths: Lengths) -> None:
    runs = runs_of(lengths)
    assert [run.length for run in runs for _ in range(run.texts)] == lengths
    assert all(a.length != b.length for a, b in pairwise(runs))
    assert [run.start for run in runs] == [0, *(run.stop for run in runs[:-1])]
    assert runs[-1].stop == sum(lengths)


def test_equal_texts_make_one_run() -> None:
    assert runs_of([4, 4, 4]) == (Run(0, 3, 4),)
    assert runs_of([2, 2, 3, 2]) == (Run(0, 2, 2), Run(4, 1, 3), Run(7, 1, 2))


def test_a_packed_batch_keeps_every_token_in_its_place() -> None:
    batch = PackedBatch.pack([[5, 6], [7, 8], [9]], [[0, 1], [0, 0], [1]])
    assert batch.ids_P.tolist() == [5, 6, 7, 8, 9]
    assert batch.types_P.tolist() == [0, 1, 0, 0, 1]
    assert batch.positions_P.tolist() == [0, 1, 0, 1, 0]
    assert (batch.texts, batch.tokens, batch.longest, batch.lengths) == (3, 5, 2, (2, 2, 1))
    assert batch.bounds().tolist() == [0, 2, 4, 5]
    assert batch.bounds().dtype is torch.int32
    assert {batch.ids_P.dtype, batch.types_P.dtype, batch.positions_P.dtype} == {torch.int64}


def test_token_types_are_zero_unless_given() -> None:
    assert PackedBatch.pack([[5, 6], [7]]).types_P.tolist() == [0, 0, 0]


@pytest.mark.parametrize("texts", [[], [[1], []]])
def test_a_batch_needs_texts_and_a_text_needs_tokens(texts: Sequence[Sequence[int]]) -> None:
    with pytest.raises(ValueError, match="at least one text, and each text at least one token"):
        PackedBatch.pack(texts)


def test_a_batch_moves_with_everything_that_it_holds() -> None:
    stream = PackedBatch.pack([[5, 6], [7]])
    rows = RowBatch((stream, stream), torch.tensor([1, 0]), (4, 2)).to(torch.device("meta"))
    assert rows.labels_N is not None
    assert {rows.labels_N.device.type, *(stream.ids_P.device.type for stream in rows.streams)} == {"meta"}
    assert rows.tokens == 6
    assert rows.rows == (4, 2)


@pytest.mark.parametrize("name", REDUCTIONS)
@given(lengths=ragged)
def test_packed_and_padded_reduce_to_the_same_with_the_same_gradient(name: str, lengths: Lengths) -> None:
    reduce = REDUCTIONS[name]
    query_ND, weight_ND = draw(len(lengths), WIDTH, seed=1), draw(len(lengths), WIDTH, seed=2)
    results, gradients = [], []
    for form in (0, 1):
        hidden_PD = draw(sum(lengths), WIDTH).requires_grad_()
        vector_ND = query_ND.clone().requires_grad_()
        result_ND = reduce(both_forms(lengths, hidden_PD, filling=9.0)[form], vector_ND)
        torch.autograd.backward((result_ND * weight_ND).sum())
        results.append(result_ND.detach())
        assert hidden_PD.grad is not None
        gradients.append((hidden_PD.grad, torch.zeros(()) if vector_ND.grad is None else vector_ND.grad))
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@given(lengths=ragged)
def test_scores_and_weights_of_tokens_are_the_same_in_both_forms(lengths: Lengths) -> None:
    packed, padded = both_forms(lengths, draw(sum(lengths), WIDTH))
    query_ND = draw(len(lengths), WIDTH, seed=1)
    for query in (query_ND, query_ND[0]):
        scores_P, scores_NL = packed.dot(query), padded.dot(query)
        torch.testing.assert_close(scores_P, scores_NL[padded.mask_NL])
        weights_P, weights_NL = packed.softmax(scores_P), padded.softmax(scores_NL)
        torch.testing.assert_close(weights_P, weights_NL[padded.mask_NL])
        assert not weights_NL[~padded.mask_NL].any()
        sums = torch.stack([text.sum() for text in texts_of(lengths, weights_P)])
        torch.testing.assert_close(sums, torch.ones(len(lengths), dtype=torch.float64))
    assert packed.lengths_N.tolist() == padded.lengths_N.tolist() == lengths


def test_reductions_by_hand() -> None:
    packed, _ = both_forms([2, 1], torch.tensor([[1.0, -1.0], [3.0, -5.0], [7.0, 2.0]]))
    assert packed.first().tolist() == [[1.0, -1.0], [7.0, 2.0]]
    assert packed.last().tolist() == [[3.0, -5.0], [7.0, 2.0]]
    assert packed.sum().tolist() == [[4.0, -6.0], [7.0, 2.0]]
    assert packed.max().tolist() == [[3.0, -1.0], [7.0, 2.0]]
    assert packed.sum(torch.tensor([0.5, 0.5, 2.0])).tolist() == [[2.0, -3.0], [14.0, 4.0]]
    assert packed.dot(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist() == [1.0, 3.0, 2.0]
    assert packed.rest().tolist() == [0.0, 1.0, 0.0]
    assert packed.softmax(torch.tensor([5.0, 5.0, 99.0])).tolist() == [0.5, 0.5, 1.0]


def test_an_output_hands_out_any_layer_in_any_type() -> None:
    layers = (torch.zeros(3, 2), torch.ones(3, 2, dtype=torch.bfloat16))
    output = EncoderOutput(PackedBatch.pack([[5, 6], [7]]), layers, lambda tokens: 3 * tokens.last())
    assert output.tokens().sum().tolist() == [[2.0, 2.0], [1.0, 1.0]]
    assert output.tokens().sum().dtype is torch.bfloat16
    assert output.tokens(dtype=torch.float32).sum().dtype is torch.float32
    assert not output.tokens(0).sum().any()
    assert output.pooled().tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert not output.pooled(layers[0]).any()
    with pytest.raises(ValueError, match="no pooler"):
        EncoderOutput(output.batch, layers).pooled()


HEADS, SIZE = 2, 3


@pytest.mark.parametrize("rate", [0.0, 1e-12])
@given(lengths=ragged)
def test_packed_and_padded_attend_to_the_same_with_the_same_gradient(rate: float, lengths: Lengths) -> None:
    packed = PackedBatch.pack([[0] * length for length in lengths])
    weight_PD = draw(sum(lengths), HEADS * SIZE, seed=2)
    results = []
    for batch in (packed, packed.padded()):
        qkv_PE = draw(sum(lengths), 3 * HEADS * SIZE).requires_grad_()
        stream_PE = qkv_PE if batch is packed else packed.block(qkv_PE).flatten(0, 1)
        mixed_PD = batch.attend(stream_PE, HEADS, rate)
        mixed_PD = mixed_PD if batch is packed else packed.stream(batch.block(mixed_PD))
        torch.autograd.backward((mixed_PD * weight_PD).sum())
        results.append((mixed_PD.detach(), qkv_PE.grad))
    torch.testing.assert_close(results[0], results[1])


@given(lengths=ragged)
def test_packed_and_padded_recur_to_the_same(lengths: Lengths) -> None:
    lstm = torch.nn.LSTM(WIDTH, 2, batch_first=True, bidirectional=True, dtype=torch.float64)
    packed, hidden_PD = PackedBatch.pack([[0] * length for length in lengths]), draw(sum(lengths), WIDTH)
    padded = packed.padded()
    states_PD = padded.recur(lstm, packed.block(hidden_PD).flatten(0, 1))
    torch.testing.assert_close(packed.recur(lstm, hidden_PD), packed.stream(padded.block(states_PD)))


@given(lengths=ragged)
def test_a_stream_comes_back_from_its_block(lengths: Lengths) -> None:
    packed = PackedBatch.pack([list(range(1, length + 1)) for length in lengths])
    block_NL = packed.block(packed.ids_P)
    assert block_NL.tolist() == [[*range(1, n + 1), *[0] * (max(lengths) - n)] for n in lengths]
    assert torch.equal(packed.stream(block_NL), packed.ids_P)
    assert torch.equal(packed.mask(), block_NL > 0)
    padded = packed.padded()
    assert torch.equal(padded.stream(padded.block(padded.ids_P)), padded.ids_P)
    assert torch.equal(packed.stream(padded.block(padded.positions_P)), packed.positions_P)
    assert padded.longest == packed.longest
