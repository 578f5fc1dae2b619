"""The padded form of a batch, and what traces it. Shapes: N texts, L tokens of the longest, C logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from polytask.encoder.base import Encoder
from polytask.encoder.bert import Bert, BertShape
from polytask.encoder.lstm import BiLstm
from polytask.heads.logits.base import heads
from polytask.heads.pooling.base import poolings
from polytask.heads.task import TaskHead
from polytask.packing import PackedBatch, PaddedBatch

SHAPE = BertShape(vocabulary=40, width=16, layers=2, heads=4, feed_forward=24, positions=32)


@pytest.fixture(params=["bert", "lstm"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    made = Bert(SHAPE) if request.param == "bert" else BiLstm(40, embedding=6, hidden=5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def texts(*lengths: int) -> PackedBatch:
    generator = torch.Generator().manual_seed(len(lengths))
    ids = [torch.randint(0, 40, (length,), generator=generator).tolist() for length in lengths]
    return PackedBatch.pack(ids, [[0] * (length // 2) + [1] * (length - length // 2) for length in lengths])


@torch.no_grad()
def test_packed_and_padded_texts_are_encoded_alike(encoder: Encoder) -> None:
    packed = texts(6, 2, 2, 9, 1, 6)
    padded = packed.padded()
    here, there = encoder(packed), encoder(padded)
    for layer, other in zip(here.layers, there.layers, strict=True):
        torch.testing.assert_close(layer, packed.stream(padded.block(other)), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(here.pooled(), there.pooled(), atol=2e-6, rtol=1e-5)


def test_dropout_on_attention_keeps_away_from_the_padding() -> None:
    encoder = Bert(SHAPE, dropout=0.0, attention_dropout=0.3)
    padded = texts(3, 7).padded()
    words_PD = encoder.embed(padded).detach().requires_grad_()
    torch.autograd.backward(encoder(padded, words_PD).tokens().sum()[0].square().sum())
    assert words_PD.grad is not None
    reached_NL = padded.block(words_PD.grad).abs().sum(2) > 0
    assert torch.equal(reached_NL[0], padded.mask_NL[0])
    assert not reached_NL[1].any()


class Exported(nn.Module):
    """What an export is of: ids and a mask in, logits out."""

    def __init__(self, pooling: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Bert(SHAPE)
        self.head = TaskHead(poolings.create(pooling, SHAPE.width), heads.create("linear", SHAPE.width, 3))

    def forward(self, ids_NL: Tensor, mask_NL: Tensor, types_NL: Tensor) -> Tensor:
        batch = PaddedBatch.pad(ids_NL, mask_NL, types_NL)
        logits_NC: Tensor = self.head([self.head.pool(self.encoder(batch))])[0]
        return logits_NC


@torch.no_grad()
@pytest.mark.parametrize("pooling", poolings.names())
def test_a_bert_and_its_head_can_be_traced_for_any_number_of_texts_of_any_length(pooling: str) -> None:
    model, sample = Exported(pooling).eval(), texts(5, 3).padded()
    blocks = [sample.block(part) for part in (sample.ids_P, sample.types_P)]
    sizes = {0: torch.export.Dim("N", min=1, max=64), 1: torch.export.Dim("L", min=2, max=SHAPE.positions)}
    traced = torch.export.export(
        model,
        (blocks[0], sample.mask_NL, blocks[1]),
        dynamic_shapes={"ids_NL": sizes, "mask_NL": sizes, "types_NL": sizes},
    ).module()
    for packed in (texts(9, 1, 4), texts(7), texts(2, 2, 3, 20, 20, 5, 1)):
        padded = packed.padded()
        found_NC = traced(padded.block(padded.ids_P), padded.mask_NL, padded.block(padded.types_P))
        (wanted_NC,) = model.head([model.head.pool(model.encoder(packed))])
        torch.testing.assert_close(found_NC, wanted_NC, atol=1e-5, rtol=1e-5)
