"""An encoder reads a batch once, and any number of tasks judge it. Shapes: N texts, D width, C logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polytask.encoder.base import Encoder
from polytask.encoder.bert import Bert, BertShape
from polytask.encoder.lstm import BiLstm
from polytask.heads.logits.base import heads
from polytask.heads.pairs.base import Merge, pair_features
from polytask.heads.pooling.base import poolings
from polytask.heads.task import TaskHead
from polytask.model import Model
from polytask.packing import PackedBatch, RowBatch

SHAPE = BertShape(vocabulary=30, width=16, layers=3, heads=2, feed_forward=24)
POOLINGS = {"one": "cls", "two": "mean", "three": "attention"}
TEXTS = [[1, 2, 3], [4, 5, 6], [7, 8], [9], [10, 11, 12, 13]]


def model_of(encoder: Encoder, streams: int = 1, own: str | None = None) -> Model:
    """Return a model of three tasks that read one encoder, but for ``own``, which has another."""
    torch.manual_seed(1)
    made = {}
    for outputs, (task, pooling) in enumerate(POOLINGS.items(), 2):
        merge = Merge([pair_features.create("u", encoder.width), pair_features.create("v", encoder.width)])
        width = encoder.width if streams == 1 else merge.width
        head = heads.create("linear", width, outputs)
        made[task] = TaskHead(poolings.create(pooling, encoder.width), head, merge if streams == 2 else None)
    encoders = {"shared": encoder} | ({} if own is None else {own: Bert(SHAPE)})
    return Model(encoders, made, {task: own if task == own else "shared" for task in made})


def rows(streams: int = 1) -> RowBatch:
    batches = (PackedBatch.pack(TEXTS), PackedBatch.pack(TEXTS[::-1]))
    return RowBatch(batches[:streams], None, tuple(range(len(TEXTS))))


@pytest.fixture(params=["bert", "lstm"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    return Bert(SHAPE) if request.param == "bert" else BiLstm(30, embedding=6, hidden=8)


@torch.no_grad()
@pytest.mark.parametrize("streams", [1, 2])
def test_three_tasks_judge_one_reading_to_the_bit_as_three_passes_would(encoder: Encoder, streams: int) -> None:
    model, batch = model_of(encoder, streams).eval(), rows(streams)
    apart = {task: model(task, batch) for task in POOLINGS}
    passes: list[int] = []
    encoder.register_forward_hook(lambda *_: passes.append(1))
    reading = model.read(batch)
    together = {task: model.judge(task, reading) for task in POOLINGS}
    assert len(passes) == streams
    assert [logits_NC.shape for logits_NC in together.values()] == [(5, 2), (5, 3), (5, 4)]
    assert all(torch.equal(apart[task], together[task]) for task in POOLINGS)


def test_a_task_draws_the_same_dropout_whether_or_not_others_judge_after_it(encoder: Encoder) -> None:
    model, batch = model_of(encoder, 2), rows(2)

    def judged() -> Tensor:
        torch.manual_seed(7)
        return model.judge("two", model.read(batch))

    torch.manual_seed(7)
    assert torch.equal(model("two", batch), judged())
    torch.manual_seed(8)
    assert not torch.equal(model("two", batch), judged())


def test_a_layer_that_no_task_reads_is_not_computed() -> None:
    encoder = Bert(SHAPE)
    model, computed = model_of(encoder), []
    for number, layer in enumerate(encoder.layers, 1):
        layer.register_forward_hook(lambda *_, number=number: computed.append(number))
    model.heads["two"] = TaskHead(poolings.create("mean", 16, layers=[1]), heads.create("linear", 16, 2))
    reading = model.read(rows())
    assert computed == []
    model.judge("two", reading)
    assert computed == [1]
    model.judge("three", reading)
    assert computed == [1, 2, 3]


def test_given_embeddings_take_the_place_of_the_words_own(encoder: Encoder) -> None:
    model, batch = model_of(encoder).eval(), rows()
    words = model.embed("one", batch)
    same, moved = (model.judge("one", model.read(batch, embeddings=[given])) for given in (words[0], words[0].flip(0)))
    assert torch.equal(same, model("one", batch))
    assert not torch.allclose(moved, same)


def test_a_task_judges_nothing_that_another_encoder_has_read(encoder: Encoder) -> None:
    model = model_of(encoder, own="two")
    with pytest.raises(ValueError, match="task 'two' has the encoder 'two'; this was read by 'shared'"):
        model.judge("two", model.read(rows()))
    assert torch.equal(model.eval()("two", rows()), model.judge("two", model.read(rows(), "two")))
