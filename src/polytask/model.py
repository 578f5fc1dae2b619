"""Encoders (one for all tasks, as a rule), and for each task a pooling, what merges a pair, and a head.

Shapes: N rows, P tokens of a packed batch, D width, C logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from polytask.encoder.base import Encoder, WordEmbedding
from polytask.heads.task import TaskHead
from polytask.packing import EncoderOutput, RowBatch
from polytask.runtime.device import DTYPES
from polytask.runtime.keys import draws_kept, reseed
from polytask.tasks.task import Task

SHARED = "shared"
"""The name of the encoder that all tasks have which have none of their own."""


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

    def read(
        self,
        batch: RowBatch,
        encoder: str = SHARED,
        embeddings: Sequence[Tensor] | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> Reading:
        """Have an encoder read a batch, for all tasks that have this encoder and this input to judge.

        ``embeddings`` replace those of ``embed``; ``dtype`` is the type of the activations, the encoder's own by default.
        """
        given: Sequence[Tensor | None] = embeddings or [None] * len(batch.streams)
        pairs = zip(batch.streams, given, strict=True)
        return Reading(
            encoder, [partial(self.encoders[encoder], stream, words, dtype=dtype) for stream, words in pairs]
        )

    def judge(self, task: str, reading: Reading) -> Tensor:
        """Return a task's logits ``(N, C)``, fp32, in the order of the batch's rows: the mean over the orders of a pair.

        Raises ValueError for what another encoder than the task's has read.
        """
        return mean(self.head(task)(self.vectors(task, reading)))

    def vectors(self, task: str, reading: Reading) -> list[Tensor]:
        """Return the vectors ``(N, D)`` that a task pools of each of a batch's streams, in the order of its rows."""
        if reading.encoder != self.encoder_of[task]:
            raise ValueError(
                f"task '{task}' has the encoder '{self.encoder_of[task]}'; this was read by '{reading.encoder}'"
            )
        head = self.head(task)
        return [head.pool(output) for output in reading]

    def encode(
        self,
        task: str,
        batch: RowBatch,
        embeddings: Sequence[Tensor] | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> list[Tensor]:
        """Read a batch for one task alone. Returns what the task pools of each stream, as ``vectors`` does."""
        return self.vectors(task, self.read(batch, self.encoder_of[task], embeddings, dtype=dtype))

    def forward(self, task: str, batch: RowBatch) -> Tensor:
        """Read a batch for one task alone and return its logits, as ``judge`` does."""
        return self.judge(task, self.read(batch, self.encoder_of[task]))


class Reading:
    """What the encoder called ``encoder`` makes of each stream of a batch, for any number of tasks to judge.

    A stream is run when a task first reads it, under the gradient mode of that moment: so the order in which dropout
    is drawn (all of the first stream's, then the second's) is that of a pass for one task.
    """

    def __init__(self, encoder: str, passes: Sequence[Callable[[], EncoderOutput]]) -> None:
        self.encoder = encoder
        self._passes = passes
        self._known: list[EncoderOutput] = []

    def __iter__(self) -> Iterator[EncoderOutput]:
        for number, run in enumerate(self._passes):
            if number == len(self._known):
                self._known.append(run())
            yield self._known[number]


def mean(tensors: Sequence[Tensor]) -> Tensor:
    """Return the mean of a few tensors; of two, the same to the bit in either order."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total if len(tensors) == 1 else total / len(tensors)


@dataclass(frozen=True)
class TaskOutput:
    """Logits ``(N, C)`` of a pass, each row's loss, and the pooled vectors ``(N, D)`` that the logits came from."""

    logits_NC: Tensor
    loss_N: Tensor
    vectors: tuple[Tensor, ...] = ()

    def detached(self) -> TaskOutput:
        """Return the same numbers, without a way back to where they came from."""
        vectors = tuple(vector_ND.detach() for vector_ND in self.vectors)
        return TaskOutput(self.logits_NC.detach(), self.loss_N.detach(), vectors)


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
    ) -> TaskOutput:
        """Run the batch forward.

        ``dropout``: "same" repeats the clean pass's masks, "fresh" draws new ones at each call, "off" has none.
        ``precision`` is that of the activations, the run's own by default; ``model`` may be a teacher.
        """
        model = model or self.model
        reseed(*self.key, self._purpose(dropout))
        dtype = None if precision is None else DTYPES[precision]
        with _dropout_off(model) if dropout == "off" else _as_is():
            return self._output(model, model.encode(self.task.name, self.batch, embeddings, dtype=dtype))

    def run_apart(
        self,
        embeddings: Sequence[Tensor],
        beside: TaskOutput,
        *,
        dropout: Dropout = "same",
        precision: Literal["float32", "bfloat16"] | None = None,
    ) -> list[TaskOutput]:
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
                with draws_kept(vector_ND.device):  # every result has the masks that the first one's head drew
                    outs.append(self._output(self.model, mixed))
        return outs

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Have passes within it leave the word table's gradient alone, whatever is differentiated there.

        In a step backward adds the table's part straight into the step's buffer, be it asked for or not; a look at what
        noise does must add nothing. The backward pass of what was made within it belongs within it, too.
        """
        tables = [m for m in self.model.encoder(self.task.name).modules() if isinstance(m, WordEmbedding)]
        held = [table.gradient_VD for table in tables]
        for table in tables:
            table.gradient_VD = None
        try:
            yield
        finally:
            for table, gradient_VD in zip(tables, held, strict=True):
                table.gradient_VD = gradient_VD

    def divergence(self, a: TaskOutput, b: TaskOutput) -> Tensor:
        """Return how far two predictions of each row are apart, ``(N,)``, as the task's kind measures it."""
        return self.task.kind.divergence(a.logits_NC, b.logits_NC, self.batch.labels_N)

    def _output(self, model: Model, vectors: Sequence[Tensor]) -> TaskOutput:
        if self.batch.labels_N is None:
            raise ValueError(f"task '{self.task.name}': a batch without labels has no loss")
        logits = model.head(self.task.name)(vectors)
        loss_N = mean([self.task.kind.loss(logits_NC, self.batch.labels_N) for logits_NC in logits])
        if self.task.consistency:
            loss_N = loss_N + self.task.consistency * self.task.kind.divergence(*logits)
        return TaskOutput(mean(logits), loss_N, tuple(vectors))

    def _purpose(self, dropout: str) -> str:
        if dropout != "fresh":
            return "forward"
        self._fresh += 1
        return f"fresh {self._fresh}"


@contextmanager
def _dropout_off(model: Model) -> Iterator[None]:
    training = model.training
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.RNNBase) and module.dropout == 0:
            module.train(training)  # cuDNN goes backward through a recurrent layer in training mode only
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def _as_is() -> Iterator[None]:
    yield
