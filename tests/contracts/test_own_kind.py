"""A kind of task is one file: here one that polytask has never heard of trains, is killed, goes on, predicts and is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from polytask.data.tokens import TokenColumn, Tokenizer
from polytask.encoder.base import Encoder
from polytask.heads.pooling.base import Pooling
from polytask.heads.projection import Projection
from polytask.heads.task import TaskHead
from polytask.inference.predictor import load
from polytask.jobs.train import resume, train
from polytask.metrics.base import Metric, Predicted, Truth, metrics
from polytask.tasks.kinds.base import Kind, Targets, kinds, to_numpy


class Lengths(Kind):
    """How many tokens a text has, as a logarithm: targets and a head of its own, no label column."""

    takes: ClassVar[frozenset[str]] = frozenset({"pooling"})
    pairs = ("single",)
    has_labels = False
    gives = frozenset({"gap"})
    metrics = ("closeness",)
    dtype = torch.float32

    def __init__(self, labels: Mapping[str, str], *, scale: float = 1.0) -> None:
        super().__init__({})
        self.scale = scale

    @property
    def outputs(self) -> int:
        return 1

    def targets(self, labels: Sequence[str], columns: Sequence[TokenColumn], tokenizer: Tokenizer) -> Targets:
        return Targets(self.collate([float(length) for length in columns[0].lengths]).log())

    def own_head(self, encoder: Encoder, pooling: Pooling | None, projection: Projection | None) -> TaskHead:
        assert pooling is not None
        return TaskHead(pooling, nn.Linear(pooling.width, 1))

    def loss(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        return self.scale * F.mse_loss(logits_NC[:, 0], labels_N, reduction="none")

    def divergence(self, a_NC: Tensor, b_NC: Tensor, labels_N: Tensor | None = None) -> Tensor:
        return (a_NC[:, 0] - b_NC[:, 0]) ** 2

    def decode(self, logits_NC: Tensor) -> Predicted:
        return Predicted(values_N=to_numpy(logits_NC[:, 0].exp()))

    def truth(self, labels_N: Tensor) -> NDArray[np.float64]:
        return to_numpy(labels_N.exp())

    def beside(self, logits_NC: Tensor, labels_N: Tensor) -> dict[str, NDArray[np.float64]]:
        return {"gap": to_numpy((logits_NC[:, 0] - labels_N).abs())}


class Closeness(Metric):
    """How near the logarithms lie, negative: a metric that reads a column of its kind's own."""

    reads = (frozenset({"gap"}),)
    range = (-float("inf"), 0.0)

    def __call__(self, predicted: Predicted, truth: Truth) -> float:
        return -float(predicted.columns["gap"].mean())


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds.names()
    monkeypatch.setitem(kinds._members, "lengths", Lengths)
    monkeypatch.setitem(kinds._origins, "lengths", "this test")
    metrics.names()
    monkeypatch.setitem(metrics._members, "closeness", Closeness)
    monkeypatch.setitem(metrics._origins, "closeness", "this test")


@pytest.mark.usefixtures("known")
def test_it_trains_goes_on_and_predicts(
    tiny: Callable[..., dict[str, Any]],
    crashed: Callable[[Mapping[str, Any], Path, int], Path],
    tmp_path: Path,
) -> None:
    recipe = tiny({"steps": 40, "batch_size": 20, "learning_rate": 1e-2}, only=("sentiment",), checkpoint_every=10)
    recipe["tasks"]["lengths"] = {
        "kind": {"name": "lengths", "scale": 2.0},
        "rows_from": "sentiment",
        "dev": 0.2,
        "pooling": "mean",
        "evaluate": True,
    }
    whole = train(recipe, tmp_path / "whole")
    again = crashed(recipe, tmp_path / "again", 25)
    resume(again)
    assert (Path(whole) / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    short, long = load(again).predict("lengths", ["Good.", "It is a film that goes on and on and on and on and on."])
    assert short < long
    assert load(again).evaluate("dev", "lengths").tasks["lengths"].values["closeness"] > -0.6
