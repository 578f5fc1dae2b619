"""The rows of one task's table, tokenised and labelled, ready to be packed into batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polytask.packing import PackedBatch, RowBatch
from polytask.runtime.keys import Key

from .tokens import Ids, TokenColumn, Tokenizer, keep_lengths, tokenize


@dataclass(frozen=True)
class Layout:
    """How a row's texts become streams: one input (``separate`` is False), or one for each text.

    With ``both``, a pair that is joined goes in twice, once in each order, the two next to each other.
    ``ask`` is for tasks of single tokens: it says of a packed batch which tokens are asked about and what their labels
    are, and may hide them (a language model's masking).
    """

    tokenizer: Tokenizer
    max_length: int
    separate: bool = False
    types: bool = True
    both: bool = False
    ask: Callable[[RowBatch, Key], RowBatch] | None = None


@dataclass(frozen=True)
class TaskRows:
    """Rows of a task: token columns, labels (or None), and what a person calls each row."""

    layout: Layout
    columns: tuple[TokenColumn, ...]
    ids: Sequence[str]
    labels_N: Tensor | None = None

    @classmethod
    def of(
        cls, *columns: Sequence[str], tokenizer: Tokenizer, labels_N: Tensor | None = None, max_length: int = 128
    ) -> TaskRows:
        """Return the rows of one column of texts, or of two whose texts are joined into one input; ids count from 0."""
        tokens = tuple(tokenize(column, tokenizer) for column in columns)
        return cls(Layout(tokenizer, max_length), tokens, [str(row) for row in range(len(columns[0]))], labels_N)

    def __len__(self) -> int:
        return len(self.columns[0])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens that each row sends through the encoder."""
        tokens = np.stack([column.lengths for column in self.columns])
        if self.layout.separate:
            room = self.layout.tokenizer.capacity(False, self.layout.max_length)
            frame = self.layout.max_length - room
            return np.asarray((np.minimum(tokens, room) + frame).sum(0))
        room = self.layout.tokenizer.capacity(len(self.columns) == 2, self.layout.max_length)
        joined = np.minimum(tokens.sum(0), room) + self.layout.max_length - room
        return np.asarray(joined * 2 if self.layout.both else joined)

    @cached_property
    def truncated(self) -> int:
        """Number of rows that are longer than ``max_length``."""
        tokens = np.stack([column.lengths for column in self.columns])
        room = self.layout.tokenizer.capacity(
            not self.layout.separate and len(self.columns) == 2, self.layout.max_length
        )
        return int(((tokens > room).any(0) if self.layout.separate else tokens.sum(0) > room).sum())

    def swapped(self) -> TaskRows:
        """Return the same rows with the two texts of each pair exchanged."""
        return replace(self, columns=self.columns[::-1])

    def in_pieces(self) -> TaskRows:
        """Return the texts cut into rows that fit ``max_length``: what is too long to be read at once is read in turn."""
        (column,) = self.columns
        pieces, owners = column.pieces(self.layout.tokenizer.capacity(False, self.layout.max_length))
        labels_N = None if self.labels_N is None else self.labels_N[torch.from_numpy(owners)]
        return replace(self, columns=(pieces,), ids=[self.ids[row] for row in owners], labels_N=labels_N)

    def pack(self, rows: Sequence[int] | NDArray[np.int64], key: Key = ()) -> RowBatch:
        """Return the given rows as a batch, shorter rows first. Masks are drawn from ``key`` and the row."""
        chosen = np.asarray(rows, dtype=np.int64)
        chosen = chosen[np.argsort(self.lengths[chosen], kind="stable")]
        if self.layout.separate:
            streams = tuple(self._stream(column, chosen) for column in self.columns)
        else:
            streams = (self._joined(chosen),)
        labels_N = None if self.labels_N is None else self.labels_N[torch.from_numpy(chosen)]
        batch = RowBatch(streams, labels_N, tuple(int(row) for row in chosen))
        return batch if self.layout.ask is None else self.layout.ask(batch, key)

    def _joined(self, rows: NDArray[np.int64]) -> PackedBatch:
        layout = self.layout
        inputs = [
            layout.tokenizer.join(texts, layout.max_length, types=layout.types)
            for row in rows
            for texts in self._orders([column[row] for column in self.columns])
        ]
        return PackedBatch.pack([ids for ids, _ in inputs], [types for _, types in inputs])

    def _orders(self, texts: list[Ids]) -> list[list[Ids]]:
        if not self.layout.both:
            return [texts]
        # The texts themselves say which comes first: (a, b) and (b, a) are cut alike and are the same batch to the bit.
        first, second = sorted(texts, key=lambda ids: ids.tobytes())
        room = self.layout.tokenizer.capacity(True, self.layout.max_length)
        kept_first, kept_second = keep_lengths([len(first), len(second)], room)
        cut = [first[:kept_first], second[:kept_second]]
        return [cut, cut[::-1]]

    def _stream(self, column: TokenColumn, rows: NDArray[np.int64]) -> PackedBatch:
        order = np.argsort(column.lengths[rows], kind="stable")
        texts = [self.layout.tokenizer.join([column[rows[place]]], self.layout.max_length)[0] for place in order]
        back_N = torch.from_numpy(np.argsort(order, kind="stable"))
        return replace(PackedBatch.pack(texts), order_N=back_N)
