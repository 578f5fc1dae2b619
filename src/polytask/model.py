"""One shared encoder, and for each task a pooling, what merges a pair, and a head.

Shapes: N rows, P tokens of a packed batch, D width, C logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from polytask.encoder.base import Encoder
from polytask.heads.heads.base import Head
from polytask.heads.pairs.base import Merge
from polytask.heads.pooling.base import Pooling
from polytask.packing import RowBatch
from polytask.runtime.device import DTYPES
from polytask.runtime.keys import reseed
from polytask.tasks.task import Task


class TaskHead(nn.Module):
    """What belongs to one task: pooling, merge of two texts (bi-encoders only), head. Saved with the model."""

    def __init__(self, pooling: Pooling, head: Head, merge: Merge | None = None) -> None:
        super().__init__()
        self.pooling = pooling
        self.merge = merge
        self.head = head

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """Return logits ``(N, C)`` from one vector ``(N, D)`` for each row, or two."""
        merged_ND = vectors[0] if self.merge is None else self.merge(*vectors)
        logits_NC: Tensor = self.head(merged_ND)
        return logits_NC


class Model(nn.Module):
    """Encoders, tasks, and which task uses which encoder (one for all, as a rule)."""

    def __init__(
        self, encoders: Mapping[str, Encoder], heads: Mapping[str, TaskHead], encoder_of: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))
        self.heads = nn.ModuleDict(dict(heads))
        self.encoder_of = dict(encoder_of)

    def encoder(self, task: str) -> Encoder:
        """Return the encoder of a task."""
        encoder = self.encoders[self.encoder_of[task]]
        assert isinstance(encoder, Encoder)
        return encoder

    def head(self, task: str) -> TaskHead:
        """Return what belongs to a task alone."""
        head = self.heads[task]
        assert isinstance(head, TaskHead)
        return head

    def embed(self, task: str, batch: RowBatch) -> list[Tensor]:
        """Return the word embeddings ``(P, D)`` of each of a batch's streams."""
        encoder = self.encoder(task)
        return [encoder.embed(stream) for stream in batch.streams]

    def forward(
        self,
        task: str,
        batch: RowBatch,
        embeddings: Sequence[Tensor] | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return logits ``(N, C)``, fp32, in the order of ``batch.rows``."""
        logits_NC: Tensor = self.head(task)(self.encode(task, batch, embeddings, dtype=dtype))
        return logits_NC

    def encode(
        self,
        task: str,
        batch: RowBatch,
        embeddings: Sequence[Tensor] | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> list[Tensor]:
        """Return the pooled vectors ``(N, D)`` of each of a batch's streams, in the order of ``batch.rows``."""
        encoder, head = self.encoder(task), self.head(task)
        vectors = []
        given: Sequence[Tensor | None] = embeddings or [None] * len(batch.streams)
        for stream, words_PD in zip(batch.streams, given, strict=True):
            vector_ND = head.pooling(encoder(stream, words_PD, dtype=dtype))
            vectors.append(vector_ND if stream.order_N is None else vector_ND[stream.order_N])
        return vectors


@dataclass(frozen=True)
class Out:
    """Logits ``(N, C)`` of a pass, each row's loss, and the pooled vectors ``(N, D)`` that the logits came from."""

    logits_NC: Tensor
    loss_N: Tensor
    vectors: tuple[Tensor, ...] = ()

    def detached(self) -> Out:
        """Return the same numbers, without a way back to where they came from."""
        vectors = tuple(vector_ND.detach() for vector_ND in self.vectors)
        return Out(self.logits_NC.detach(), self.loss_N.detach(), vectors)


Dropout = Literal["same", "fresh", "off"]
"""The masks of a pass: those of the clean pass, new ones at each call, or none."""


@dataclass
class TaskView:
    """One micro-batch of one task, as a regularizer sees it: run it again, with other embeddings, dropout or precision.

    ``key`` names the micro-batch (seed, stage, step, task, micro-batch); every pass draws its dropout from it.
    """

    model: Model
    task: Task
    batch: RowBatch
    key: tuple[int | str, ...]
    _fresh: int = field(default=0, repr=False)

    @property
    def compute(self) -> torch.dtype:
        """The type of the activations, when a pass does not ask for another."""
        return self.model.encoder(self.task.name).compute

    def embeddings(self) -> list[Tensor]:
        """Return the word embeddings: of one stream, or of two for a bi-encoder."""
        return self.model.embed(self.task.name, self.batch)

    def run(
        self,
        embeddings: Sequence[Tensor] | None = None,
        *,
        dropout: Dropout = "same",
        precision: Literal["float32", "bfloat16"] | None = None,
        model: Model | None = None,
    ) -> Out:
        """Run the batch forward.

        ``dropout``: "same" repeats the clean pass's masks, "fresh" draws new ones at each call, "off" has none.
        ``precision`` is that of the activations, the run's own by default; ``model`` may be a teacher.
        """
        model = model or self.model
        reseed(*self.key, self._purpose(dropout))
        dtype = None if precision is None else DTYPES[precision]
        with _dropout_off(model) if dropout == "off" else _as_is():
            return self._judge(model, model.encode(self.task.name, self.batch, embeddings, dtype=dtype))

    def run_apart(
        self,
        embeddings: Sequence[Tensor],
        beside: Out,
        *,
        dropout: Dropout = "same",
        precision: Literal["float32", "bfloat16"] | None = None,
    ) -> list[Out]:
        """Run each stream with its own given embeddings, beside what an earlier pass made of the other streams.

        One pass through the encoder, one result for each stream; of a single stream it is what ``run`` returns.
        """
        reseed(*self.key, self._purpose(dropout))
        dtype = None if precision is None else DTYPES[precision]
        with _dropout_off(self.model) if dropout == "off" else _as_is():
            vectors = self.model.encode(self.task.name, self.batch, embeddings, dtype=dtype)
            outs = []
            for number, vector_ND in enumerate(vectors):
                mixed = [*beside.vectors[:number], vector_ND, *beside.vectors[number + 1 :]]
                with _draws_kept(vector_ND.device):  # every result has the masks that the first one's head drew
                    outs.append(self._judge(self.model, mixed))
        return outs

    def divergence(self, a: Out, b: Out) -> Tensor:
        """Return how far two predictions of each row are apart, ``(N,)``, as the task's kind measures it."""
        return self.task.kind.divergence(a.logits_NC, b.logits_NC)

    def _judge(self, model: Model, vectors: Sequence[Tensor]) -> Out:
        if self.batch.labels_N is None:
            raise ValueError(f"task '{self.task.name}': a batch without labels has no loss")
        logits_NC = model.head(self.task.name)(vectors)
        return Out(logits_NC, self.task.kind.loss(logits_NC, self.batch.labels_N), tuple(vectors))

    def _purpose(self, dropout: str) -> str:
        if dropout != "fresh":
            return "forward"
        self._fresh += 1
        return f"fresh {self._fresh}"


@contextmanager
def _dropout_off(model: Model) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _draws_kept(device: torch.device) -> AbstractContextManager[None]:
    if device.type == "cpu":
        return torch.random.fork_rng([])
    return torch.random.fork_rng([device], device_type=device.type)


@contextmanager
def _as_is() -> Iterator[None]:
    yield
