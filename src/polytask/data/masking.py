"""Masked tokens, as Devlin et al. (2018, §3.1 and A.1) hide them from a language model.

Shapes: N texts, P tokens of the packed batch, K masked tokens of the text that has most of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from polytask.packing import RowBatch
from polytask.runtime.keys import Key, numpy_generator

NO_LABEL = -100
"""Where a text has fewer than K masked tokens."""

_MASKED, _REPLACED = 0.8, 0.1


@dataclass(frozen=True, eq=False)
class Masking:
    """Chooses ``rate`` of each text's ordinary tokens: 80% become ``mask``, 10% another ordinary token, 10% stay.

    A text's draws come from the key and its row: they do not hang on the rows beside it. A share that is not whole is
    rounded up or down at random, so that ``rate`` is met on average; but a text has one masked token at least.
    """

    mask: int
    ordinary: NDArray[np.int32]
    rate: float = 0.15

    def __call__(self, batch: RowBatch, key: Key) -> RowBatch:
        """Return the batch with masked ids; ``labels_N`` ``(N, K)`` are the tokens that were there."""
        (stream,) = batch.streams
        ids_P = stream.ids_P.numpy().copy()
        starts = np.cumsum([0, *stream.lengths[:-1]])
        chosen = [
            start + self._hide(ids_P[start : start + length], key, row)
            for start, length, row in zip(starts, stream.lengths, batch.rows, strict=True)
        ]
        masked_NK, filled_NK = _rectangle(chosen, starts)
        labels_NK = np.where(filled_NK, stream.ids_P.numpy()[masked_NK], NO_LABEL)
        hidden = replace(stream, ids_P=torch.from_numpy(ids_P), asked_NK=torch.from_numpy(masked_NK))
        return replace(batch, streams=(hidden,), labels_N=torch.from_numpy(labels_NK))

    def _hide(self, ids: NDArray[np.int64], key: Key, row: int) -> NDArray[np.int64]:
        """Mask a text's ids in place, and return at which places."""
        generator = numpy_generator(*key, "mask", row)
        places = np.flatnonzero(np.isin(ids, self.ordinary))
        wanted = int(self.rate * len(places) + generator.random())
        chosen = np.sort(generator.permutation(places)[: max(wanted, 1)])
        fate, words = generator.random(len(chosen)), generator.choice(self.ordinary, len(chosen))
        ids[chosen] = np.where(fate < _MASKED, self.mask, np.where(fate < _MASKED + _REPLACED, words, ids[chosen]))
        return chosen


def _rectangle(
    chosen: list[NDArray[np.int64]], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the places as ``(N, K)``, each text's rest filled up with its first token, and which are none of the rest."""
    most = max(1, *(len(places) for places in chosen)) if chosen else 1
    masked_NK = np.repeat(starts[:, None], most, axis=1)
    filled_NK = np.zeros(masked_NK.shape, dtype=bool)
    for text, places in enumerate(chosen):
        masked_NK[text, : len(places)] = places
        filled_NK[text, : len(places)] = True
    return masked_NK, filled_NK
