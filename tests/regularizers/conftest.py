"""A two-layer net that can be followed by hand, and views of tiny recipes' batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polytask.assembly.parts import Parts, build
from polytask.encoder.base import Encoder
from polytask.heads.logits.linear import Linear
from polytask.heads.pooling.mean import Mean
from polytask.heads.task import TaskHead
from polytask.model import Model, TaskView
from polytask.packing import Batch, EncoderOutput, PackedBatch, RowBatch
from polytask.recipe.load import load_recipe
from polytask.runtime.device import DTYPES
from polytask.tasks.kinds.base import kinds
from polytask.tasks.task import Task
from polytask.training.step import Step

WIDTH = 6


class Net(Encoder):
    """hₜ = tanh(W xₜ), in float64."""

    width = WIDTH
    has_pooler = False
    compute = torch.float64

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.table = torch.nn.Parameter(torch.randn(20, WIDTH, dtype=torch.float64, generator=generator) * 0.1)
        self.inner = torch.nn.Parameter(torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=generator))

    def embed(self, batch: Batch) -> Tensor:
        return self.table[batch.ids_P]

    def forward(
        self, batch: Batch, embeddings: Tensor | None = None, *, dtype: torch.dtype | None = None
    ) -> EncoderOutput:
        words_PD = self.embed(batch) if embeddings is None else embeddings
        hidden_PD = torch.tanh(words_PD @ self.inner.t()).to(dtype or self.compute)
        return EncoderOutput(batch, (words_PD, hidden_PD))

    def describe(self) -> dict[str, Any]:
        return {}


class Float64Mean(Mean):
    """The mean over a text's tokens, without the rounding to float32."""

    def forward(self, output: EncoderOutput) -> Tensor:
        tokens = output.tokens()
        return tokens.sum() / tokens.lengths_N.double()[:, None]


TEXTS = [[1, 2], [3, 4, 5], [6, 7, 8]]


def classes(kind: str) -> bool:
    return kind == "classification"


@pytest.fixture
def net_view() -> Callable[[str], TaskView]:
    """Makes a view of three texts of 2, 3 and 3 tokens, for the net: "classification" of three classes or "regression"."""

    def make(kind: str) -> TaskView:
        made = (
            kinds.create(kind, {"a": "a", "b": "b", "c": "c"})
            if classes(kind)
            else kinds.create(kind, {}, range=[0, 5])
        )
        head = Linear(WIDTH, made.outputs, dropout=0.0).double()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
        model = Model({"shared": Net()}, {"task": TaskHead(Float64Mean(WIDTH), head)}, {"task": "shared"})
        labels_N = torch.tensor([0, 2, 1]) if classes(kind) else torch.tensor([1.0, 3.0, 4.0])
        batch = RowBatch((PackedBatch.pack(TEXTS),), labels_N, (4, 9, 2))
        task = Task("task", made, ("text",), "label", None, 16, "single")
        return TaskView(model, task, batch, (0, 0, 0, "task", 0))

    return make


@pytest.fixture(scope="module")
def all_heads(tiny: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Makes the tiny recipe with two tasks more, which learn from texts: "words" (mlm) and "pairs" (ranking)."""

    def make(*stages: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        recipe = tiny(*stages, **changes)
        recipe["tasks"]["words"] = {"kind": "mlm", "rows_from": "sentiment"}
        recipe["tasks"]["pairs"] = {"kind": "ranking", "rows_from": "paraphrase", "pooling": "mean"}
        return recipe

    return make


@pytest.fixture
def begun() -> Callable[..., tuple[Step, Parts]]:
    """Builds a recipe and the step of its first stage."""

    def make(recipe: Mapping[str, Any]) -> tuple[Step, Parts]:
        parts = build(load_recipe(recipe))
        dtype = DTYPES[parts.recipe.precision]
        step = Step(parts.model, parts.tasks, parts.train_rows, parts.stages[0], seed=parts.recipe.seed, dtype=dtype)
        return step, parts

    return make


@pytest.fixture(scope="module")
def looked_at(tiny: Callable[..., dict[str, Any]], all_heads: Callable[..., dict[str, Any]]) -> Callable[..., Parts]:
    """Builds a recipe of a joint stage once for each precision and dropout: to look at, not to train.

    It is the tiny one, or with ``all_tasks`` that of all five.
    """

    @cache
    def make(precision: str = "float32", drop: float = 0.0, all_tasks: bool = False) -> Parts:
        stage = {"steps": 4, "batch_size": 10, "learning_rate": 1e-3, "mixing": "joint"}
        recipe = all_heads if all_tasks else tiny
        parts = build(load_recipe(recipe(stage, precision=precision, drop=drop)))
        Step(parts.model, parts.tasks, parts.train_rows, parts.stages[0], seed=0, dtype=DTYPES[precision])
        return parts

    return make


@pytest.fixture
def view_of() -> Callable[..., TaskView]:
    """Makes a view of some rows of a task, the first ten by default."""

    def make(parts: Parts, task: str, rows: range | list[int] = range(10)) -> TaskView:
        batch = parts.train_rows[task].pack(np.asarray(rows))
        return TaskView(parts.model, parts.tasks[task], batch, (0, 0, 0, task, 0))

    return make
