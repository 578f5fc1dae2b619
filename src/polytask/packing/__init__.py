"""What encoder, poolings, pairs and data share: texts as one stream of tokens, and what is made of it."""

from .batches import Batch, PackedBatch, PaddedBatch, RowBatch
from .masks import dropout
from .outputs import EncoderOutput, LazyLayers
from .tokens import PackedTokens, PaddedTokens, Run, Tokens, runs_of

__all__ = [
    "Batch",
    "EncoderOutput",
    "LazyLayers",
    "PackedBatch",
    "PackedTokens",
    "PaddedBatch",
    "PaddedTokens",
    "RowBatch",
    "Run",
    "Tokens",
    "dropout",
    "runs_of",
]
