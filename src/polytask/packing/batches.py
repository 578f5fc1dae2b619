"""Batches of texts, and what works within each text of one on its own: attention, recurrence, reductions.

Shapes: N texts or rows, P tokens of a batch, L tokens of the longest text (or of each text in a run), K tokens of a
text that are asked about, D width, E = 3 × D (query, key and value side by side), H heads, d = D / H.

An encoder works on a stream of tokens, ``(P, …)``, and asks its batch for whatever must know where texts end. So it has
no branch on how texts are laid out, or on which kernels a device has.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from .masks import dropout
from .tokens import PackedTokens, PaddedTokens, Run, Tokens, runs_of


class Batch(ABC):
    """N texts as one stream of P tokens: ``ids_P``, their token types ``types_P`` and ``positions_P``, all int64.

    ``order_N`` says at which place among the pooled vectors a row's text is, and is None when the n-th text is the n-th
    row's. ``asked_NK`` says where in the stream the K tokens of each text are that its task asks about (those that were
    masked), and is None for tasks of whole texts.
    """

    ids_P: Tensor
    types_P: Tensor
    positions_P: Tensor
    order_N: Tensor | None
    asked_NK: Tensor | None

    @property
    @abstractmethod
    def longest(self) -> int:
        """Tokens of the longest text."""

    @abstractmethod
    def attend(self, qkv_PE: Tensor, heads: int, rate: float = 0.0) -> Tensor:
        """Return softmax(QKᵀ / √d) V for each text on its own, ``(P, D)``, with dropout at ``rate`` on the softmax."""

    @abstractmethod
    def recur(self, lstm: nn.LSTM, hidden_PD: Tensor) -> Tensor:
        """Return the states of a recurrent layer that begins anew at each text, ``(P, …)``."""

    @abstractmethod
    def wrap(self, hidden_PD: Tensor) -> Tokens:
        """Return vectors of the tokens with their text boundaries."""

    @abstractmethod
    def mask(self) -> Tensor:
        """Return where in a block a token is, ``(N, L)``, bool."""

    @abstractmethod
    def block(self, stream_P: Tensor) -> Tensor:
        """Return a stream ``(P, …)`` as a block ``(N, L, …)``, with zeros where no token is."""

    @abstractmethod
    def stream(self, block_NL: Tensor) -> Tensor:
        """Return a block ``(N, L, …)`` as a stream ``(P, …)``: the way back from ``block``."""


@dataclass(frozen=True)
class PackedBatch(Batch):
    """The real tokens of N texts (or N pairs joined into one text), without padding: the form for training."""

    ids_P: Tensor
    types_P: Tensor
    positions_P: Tensor
    lengths: tuple[int, ...]
    runs: tuple[Run, ...]
    order_N: Tensor | None = None
    asked_NK: Tensor | None = None

    @classmethod
    def pack(cls, texts: Sequence[ArrayLike], types: Sequence[ArrayLike] | None = None) -> PackedBatch:
        """Pack token ids (and their token types, 0 by default), text by text, into one stream."""
        arrays = [np.asarray(text, dtype=np.int64) for text in texts]
        lengths = tuple(len(array) for array in arrays)
        if not lengths or min(lengths) == 0:
            raise ValueError("a batch needs at least one text, and each text at least one token")
        ids_P = torch.from_numpy(np.concatenate(arrays))
        positions_P = torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))
        if types is None:
            return cls(ids_P, torch.zeros_like(ids_P), positions_P, lengths, runs_of(lengths))
        types_P = torch.from_numpy(np.concatenate([np.asarray(kinds, dtype=np.int64) for kinds in types]))
        return cls(ids_P, types_P, positions_P, lengths, runs_of(lengths))

    @property
    def texts(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        return self.runs[-1].stop

    @property
    def longest(self) -> int:
        return max(self.lengths)

    def attend(self, qkv_PE: Tensor, heads: int, rate: float = 0.0) -> Tensor:
        # On CUDA one kernel for all lengths beats one call for each run; it has neither dropout nor fp32.
        if qkv_PE.is_cuda and qkv_PE.dtype is not torch.float32 and rate == 0.0 and len(self.runs) > 1:
            return self._attend_at_once(qkv_PE, heads)
        return self._by_run(qkv_PE, lambda qkv_NLE: _attend(qkv_NLE, heads, rate, None))

    def _attend_at_once(self, qkv_PE: Tensor, heads: int) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        q_PHd, k_PHd, v_PHd = qkv_PE.view(qkv_PE.shape[0], 3, heads, -1).unbind(1)
        bounds = self.bounds()
        mixed_PHd = varlen_attn(q_PHd, k_PHd, v_PHd, bounds, bounds, self.longest, self.longest)
        assert isinstance(mixed_PHd, Tensor)
        return mixed_PHd.reshape(qkv_PE.shape[0], -1)

    def bounds(self) -> Tensor:
        """Return the ``(N + 1,)`` int32 offsets at which the texts begin and end, as variable-length kernels want them."""
        ends_N = torch.tensor(self.lengths, dtype=torch.int32, device=self.ids_P.device).cumsum(0, dtype=torch.int32)
        return F.pad(ends_N, (1, 0))

    def recur(self, lstm: nn.LSTM, hidden_PD: Tensor) -> Tensor:
        # Texts of a run end together, so the layer needs no mask, nor cuDNN's sorted form.
        return self._by_run(hidden_PD, lambda hidden_NLD: lstm(hidden_NLD)[0].flatten(0, 1))

    def _by_run(self, stream_PD: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
        # Split, not sliced: the gradient of a slice is as large as the whole, that of a split is put together once.
        parts = torch.split(stream_PD, [run.stop - run.start for run in self.runs])
        done = [of(part.view(run.texts, run.length, -1)) for part, run in zip(parts, self.runs, strict=True)]
        return done[0] if len(done) == 1 else torch.cat(done)

    def wrap(self, hidden_PD: Tensor) -> PackedTokens:
        return PackedTokens(hidden_PD, self.runs)

    def block(self, stream_P: Tensor) -> Tensor:
        flat = stream_P.new_zeros((self.texts * self.longest, *stream_P.shape[1:]))
        return flat.index_copy(0, self._places_P, stream_P).view(self.texts, self.longest, *stream_P.shape[1:])

    def stream(self, block_NL: Tensor) -> Tensor:
        return block_NL.flatten(0, 1).index_select(0, self._places_P)

    def mask(self) -> Tensor:
        return self.block(torch.ones_like(self.ids_P)).bool()

    @cached_property
    def _places_P(self) -> Tensor:
        """Where each token of the stream stands among the ``N * L`` places of a block."""
        device = self.ids_P.device
        lengths_N = torch.tensor(self.lengths, device=device)
        texts_P = torch.arange(self.texts, device=device).repeat_interleave(lengths_N, output_size=self.tokens)
        return texts_P * self.longest + self.positions_P

    def padded(self) -> PaddedBatch:
        """Return the same texts in the padded form."""
        return PaddedBatch.pad(self.block(self.ids_P), self.mask(), self.block(self.types_P))

    def to(self, device: torch.device) -> PackedBatch:
        """Return the batch on ``device``."""
        ids_P, types_P, positions_P = (
            part.to(device, non_blocking=True) for part in (self.ids_P, self.types_P, self.positions_P)
        )
        order_N = None if self.order_N is None else self.order_N.to(device, non_blocking=True)
        asked_NK = None if self.asked_NK is None else self.asked_NK.to(device, non_blocking=True)
        return replace(self, ids_P=ids_P, types_P=types_P, positions_P=positions_P, order_N=order_N, asked_NK=asked_NK)


@dataclass(frozen=True)
class PaddedBatch(Batch):
    """N texts of L tokens, those that ``mask_NL`` (bool) says to be none included: the form for export.

    Its stream is the block read row by row, P = N × L, so that a tracer sees nothing but views and one mask.
    """

    ids_P: Tensor
    types_P: Tensor
    positions_P: Tensor
    mask_NL: Tensor
    order_N: Tensor | None = None
    asked_NK: Tensor | None = None

    @classmethod
    def pad(cls, ids_NL: Tensor, mask_NL: Tensor, types_NL: Tensor | None = None) -> PaddedBatch:
        """Return the batch of texts that begin at the left of each row; each has at least one token."""
        types_P = torch.zeros_like(ids_NL).flatten() if types_NL is None else types_NL.flatten()
        positions_P = torch.arange(ids_NL.shape[1], device=ids_NL.device).expand(ids_NL.shape).flatten()
        return cls(ids_NL.flatten(), types_P, positions_P, mask_NL)

    @property
    def longest(self) -> int:
        return self.mask_NL.shape[1]

    def attend(self, qkv_PE: Tensor, heads: int, rate: float = 0.0) -> Tensor:
        # Tokens that are none look around, too: what they see is finite, and nobody reads it.
        return _attend(qkv_PE.view(*self.mask_NL.shape, -1), heads, rate, self.mask_NL[:, None, None, :])

    def recur(self, lstm: nn.LSTM, hidden_PD: Tensor) -> Tensor:
        # The backward direction must begin at a text's last token, not at the padding after it.
        lengths_N = self.mask_NL.sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.block(hidden_PD), lengths_N, batch_first=True, enforce_sorted=False
        )
        states_NLD, _ = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=self.longest)
        return states_NLD.flatten(0, 1)

    def wrap(self, hidden_PD: Tensor) -> PaddedTokens:
        return PaddedTokens(self.block(hidden_PD), self.mask_NL)

    def mask(self) -> Tensor:
        return self.mask_NL

    def block(self, stream_P: Tensor) -> Tensor:
        return stream_P.view(*self.mask_NL.shape, *stream_P.shape[1:])

    def stream(self, block_NL: Tensor) -> Tensor:
        return block_NL.flatten(0, 1)


def _attend(qkv_NLE: Tensor, heads: int, rate: float, seen: Tensor | None) -> Tensor:
    """Return attention over N texts of L tokens, ``(N * L, D)``; ``seen`` is True for the keys that may be looked at."""
    texts, length, size = *qkv_NLE.shape[:2], qkv_NLE.shape[2] // (3 * heads)
    q_NHLd, k_NHLd, v_NHLd = qkv_NLE.view(texts, length, 3, heads, size).permute(2, 0, 3, 1, 4).unbind(0)
    if rate == 0.0:
        mixed_NHLd = F.scaled_dot_product_attention(q_NHLd, k_NHLd, v_NHLd, attn_mask=seen)
    else:
        # Written out: torch's fused CPU kernel knows no dropout, and its fallback scales both factors, a pass more.
        scores_NHLL = torch.matmul(q_NHLd * (1.0 / math.sqrt(size)), k_NHLd.transpose(-1, -2))
        if seen is not None:
            scores_NHLL = scores_NHLL.masked_fill(~seen, float("-inf"))
        mixed_NHLd = torch.matmul(dropout(scores_NHLL.softmax(-1), rate, True), v_NHLd)
    return mixed_NHLd.transpose(1, 2).reshape(texts * length, heads * size)


@dataclass(frozen=True)
class RowBatch:
    """Rows of one task: a stream (or two, for a bi-encoder), their labels ``labels_N`` (or None) and table rows."""

    streams: tuple[PackedBatch, ...]
    labels_N: Tensor | None
    rows: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return sum(stream.tokens for stream in self.streams)

    def to(self, device: torch.device) -> RowBatch:
        """Return the batch on ``device``."""
        labels_N = None if self.labels_N is None else self.labels_N.to(device, non_blocking=True)
        return RowBatch(tuple(stream.to(device) for stream in self.streams), labels_N, self.rows)
