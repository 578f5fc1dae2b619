"""The LSTM is torch's own on packed sequences."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from polytask.encoder.lstm import BiLstm
from polytask.packing import PackedBatch

LENGTHS = [4, 4, 1, 7, 2]


@pytest.fixture
def encoder() -> BiLstm:
    torch.manual_seed(0)
    return BiLstm(30, embedding=6, hidden=5, layers=2, dropout=0.5).eval()


@torch.no_grad()
def test_it_is_torchs_lstm_on_packed_sequences(encoder: BiLstm) -> None:
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(0, 30, (length,), generator=generator) for length in LENGTHS]
    theirs = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True)
    for number, layer in enumerate(encoder.layers):
        for name, parameter in layer.named_parameters():
            getattr(theirs, name.replace("_l0", f"_l{number}")).copy_(parameter)
    padded_NLE = pad_sequence([encoder.word.weight[text] for text in texts], batch_first=True)
    lengths_N = torch.tensor(LENGTHS)
    packed = pack_padded_sequence(padded_NLE, lengths_N, batch_first=True, enforce_sorted=False)
    out, (last_SNH, _) = theirs(packed)
    out_NLD, _ = pad_packed_sequence(out, batch_first=True)
    ours = encoder(PackedBatch.pack([text.tolist() for text in texts]))
    wanted_PD = torch.cat([out_NLD[n, :length] for n, length in enumerate(LENGTHS)])
    torch.testing.assert_close(ours.layers[-1], wanted_PD)
    torch.testing.assert_close(ours.pooled(), torch.cat([last_SNH[2], last_SNH[3]], dim=1))


def test_layers_count_from_the_words_up(encoder: BiLstm) -> None:
    assert encoder.depth == 2
    assert encoder.layer_of("word.weight") == 0
    assert encoder.layer_of("layers.0.weight_ih_l0") == 1
    assert encoder.layer_of("layers.1.bias_hh_l0_reverse") == 2


def test_the_summary_is_of_what_dropout_left(encoder: BiLstm) -> None:
    encoder.train()
    torch.manual_seed(0)
    output = encoder(PackedBatch.pack([[1, 2, 3]]))
    last_PD = output.layers[-1]
    assert torch.equal(output.pooled()[0], torch.cat([last_PD[-1, :5], last_PD[0, 5:]]))
    assert (last_PD == 0).any()


def test_dropout_follows_each_layer_and_the_next_one_reads_what_is_left(encoder: BiLstm) -> None:
    encoder.train()
    torch.manual_seed(0)
    batch = PackedBatch.pack([[*range(1, 30)]])
    words_PE, first_PD, second_PD = encoder(batch).layers
    assert not (words_PE == 0).any()
    for number, read_PD, written_PD in ((0, words_PE, first_PD), (1, first_PD, second_PD)):
        whole_PD = encoder.layers[number](read_PD[None])[0][0]
        kept = written_PD != 0
        assert 0.35 < kept.float().mean() < 0.65
        torch.testing.assert_close(written_PD[kept], whole_PD[kept] / 0.5)


def test_it_computes_in_float32_whatever_is_asked(encoder: BiLstm) -> None:
    output = encoder(PackedBatch.pack([[1, 2, 3]]), dtype=torch.bfloat16)
    assert {layer.dtype for layer in output.layers} == {torch.float32}
    assert encoder.shadowed() == []
