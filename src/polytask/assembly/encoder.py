"""Which encoder and which tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from polytask.data.tokens import Tokenizer
from polytask.encoder.base import Encoder, Outline, encoders
from polytask.encoder.foreign.fetch import local, locate
from polytask.errors import CheckpointError, listed, shown
from polytask.recipe.facts import architecture_of
from polytask.recipe.settings import EncoderSettings
from polytask.runtime.keys import reseed

_LEAST_SHARE = 0.9
"""Tables of word embeddings are padded to round sizes, by a few rows."""


def glance(settings: EncoderSettings, base: Path) -> Outline | None:
    """Return what a checkpoint's config says, before tables and weights are read; None where it is yet to be fetched."""
    folder = None if settings.checkpoint is None else local(settings.checkpoint, base)
    return None if folder is None else architecture_of(settings).outline(folder)


def find_tokenizer(settings: EncoderSettings, base: Path, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """Return the checkpoint's tokenizer, the one that a new encoder is given, or one made from the training texts."""
    name = settings.checkpoint or settings.tokenizer
    if name is None:
        return Tokenizer.from_texts(texts(), settings.vocabulary or 30_000)
    folder = locate(name, base=base)
    converted = architecture_of(settings).tokenizer_json(folder)
    return Tokenizer.from_folder(folder) if converted is None else Tokenizer.from_json(converted, str(folder))


def new_encoder(settings: EncoderSettings, tokenizer: Tokenizer, base: Path, seed: int) -> Encoder:
    """Return the encoder that a recipe asks for: loaded, or drawn from its seed."""
    reseed(seed, "encoder")
    architecture = architecture_of(settings)
    if settings.checkpoint is None:
        return architecture.new(tokenizer.vocabulary)
    encoder = architecture.load(locate(settings.checkpoint, base=base))
    check_vocabulary(encoder, tokenizer, settings.checkpoint)
    return encoder


def rebuild_encoder(description: Mapping[str, Any], most: int | None = None) -> Encoder:
    """Return the encoder that ``Encoder.describe`` described, its weights yet to be filled in.

    Raises CheckpointError for a description that none gave, or of one with more than ``most`` parameters: whoever wrote
    it, no memory is taken for what cannot be filled.
    """
    name, layers = description.get("architecture"), description.get("layers", 1)
    if not isinstance(name, str) or name not in encoders.names():
        raise CheckpointError(f"{shown(name)} is not an architecture that polytask knows.")
    if isinstance(layers, bool) or not isinstance(layers, int) or layers > _MOST_LAYERS:
        raise CheckpointError(f"'layers' is {shown(layers)}; wanted a whole number of at most {_MOST_LAYERS}.")
    architecture = encoders.member(name)
    try:
        with torch.device("meta"):
            outline = architecture.rebuild(description)
            numbers = sum(parameter.numel() for parameter in outline.parameters())
            strange = sorted(description.keys() - outline.describe().keys())
        if strange:
            raise CheckpointError(f"{listed(strange)} is no part of what describes an encoder of this architecture.")
        if most is not None and numbers > max(most, HARMLESS):
            raise CheckpointError(f"it describes {numbers:,} parameters, unless the weights, of {most:,} at most, are.")
        return architecture.rebuild(description)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        reason = (str(error).splitlines() or [""])[0][:200].rstrip(".")
        raise CheckpointError(f"no encoder can be built as described: {reason}.") from error


_MOST_LAYERS = 1000
HARMLESS = 50_000_000
"""Parameters that fit any memory: what is wrong with the weights of so small a model is told when they are read."""


def save_encoder(encoder: Encoder, folder: Path, tokenizer_json: str) -> None:
    """Save an encoder and its tokenizer in Hugging Face layout. Raises UserError where that has none for it."""
    encoders.member(encoder.describe()["architecture"]).save(encoder, folder, tokenizer_json)


def check_vocabulary(encoder: Encoder, tokenizer: Tokenizer, name: str) -> None:
    """Raise CheckpointError when a tokenizer cannot be the one that an encoder was trained with."""
    known = encoder.describe().get("vocabulary")
    if known is not None and not _LEAST_SHARE * known <= tokenizer.vocabulary <= known:
        raise CheckpointError(
            f"{name}: the tokenizer has {tokenizer.vocabulary} words, the weights {known}: they do not belong together."
        )
