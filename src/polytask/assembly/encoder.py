"""Which encoder and which tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from polytask.data.tokens import Tokenizer
from polytask.encoder.base import Encoder, Outline
from polytask.encoder.bert import Bert, BertShape
from polytask.encoder.foreign.fetch import local, locate
from polytask.encoder.foreign.names import load_bert, save_bert, shape_of
from polytask.encoder.lstm import BiLstm
from polytask.errors import CheckpointError, RecipeError, UserError, shown
from polytask.recipe.settings import EncoderSettings
from polytask.runtime.keys import reseed

_LEAST_SHARE = 0.9
"""Tables of word embeddings are padded to round sizes, by a few rows."""


def glance(settings: EncoderSettings, base: Path) -> Outline | None:
    """Return what a checkpoint's config says, before tables and weights are read; None where it is yet to be fetched."""
    if settings.checkpoint is None or settings.architecture != "bert":
        return None
    folder = local(settings.checkpoint, base)
    shape = shape_of(folder) if folder is not None else None
    return Outline(shape.layers, shape.positions, None) if shape is not None else None


def find_tokenizer(settings: EncoderSettings, base: Path, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """Return the checkpoint's tokenizer, the one that a new encoder is given, or one made from the training texts."""
    name = settings.checkpoint or settings.tokenizer
    if name is None:
        return Tokenizer.from_texts(texts(), settings.vocabulary or 30_000)
    folder = locate(name, base=base)
    if settings.architecture == "auto" and not (folder / "tokenizer.json").is_file():
        from polytask.encoder.auto import auto_tokenizer

        return Tokenizer.from_json(auto_tokenizer(folder), str(folder))
    return Tokenizer.from_folder(folder)


def new_encoder(settings: EncoderSettings, tokenizer: Tokenizer, base: Path, seed: int) -> Encoder:
    """Return the encoder that a recipe asks for: loaded, or drawn from its seed."""
    reseed(seed, "encoder")
    if settings.checkpoint is not None:
        encoder = _load(settings, locate(settings.checkpoint, base=base))
        check_vocabulary(encoder, tokenizer, settings.checkpoint)
        return encoder
    if settings.architecture == "lstm":
        return BiLstm(
            tokenizer.vocabulary,
            embedding=settings.width or 300,
            hidden=settings.hidden or 256,
            layers=settings.layers or 2,
            dropout=0.5 if settings.dropout is None else settings.dropout,
        )
    width = settings.width or 768
    shape = BertShape(
        vocabulary=tokenizer.vocabulary,
        width=width,
        layers=settings.layers or 12,
        heads=settings.heads or 12,
        feed_forward=settings.hidden or 4 * width,
    )
    rate = 0.1 if settings.dropout is None else settings.dropout
    try:
        return Bert(shape, dropout=rate, attention_dropout=rate)
    except ValueError as error:
        raise RecipeError(f"encoder: {error}.") from error


def rebuild_encoder(description: Mapping[str, Any], most: int | None = None) -> Encoder:
    """Return the encoder that ``Encoder.describe`` described, its weights yet to be filled in.

    Raises CheckpointError for a description that none gave, or of one with more than ``most`` parameters: whoever wrote
    it, no memory is taken for what cannot be filled.
    """
    options = dict(description)
    architecture = options.pop("architecture", None)
    if not isinstance(architecture, str) or architecture not in _BUILDERS:
        raise CheckpointError(f"{shown(architecture)} is not an architecture that polytask knows.")
    build, layers = _BUILDERS[architecture], options.get("layers", 1)
    if isinstance(layers, bool) or not isinstance(layers, int) or layers > _MOST_LAYERS:
        raise CheckpointError(f"'layers' is {shown(layers)}; wanted a whole number of at most {_MOST_LAYERS}.")
    try:
        with torch.device("meta"):
            numbers = sum(parameter.numel() for parameter in build(options).parameters())
        if most is not None and numbers > max(most, HARMLESS):
            raise CheckpointError(f"it describes {numbers:,} parameters, unless the weights, of {most:,} at most, are.")
        return build(options)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        reason = (str(error).splitlines() or [""])[0][:200].rstrip(".")
        raise CheckpointError(f"no encoder can be built as described: {reason}.") from error


def _bert(options: Mapping[str, Any]) -> Encoder:
    apart = {name: options[name] for name in ("dropout", "attention_dropout", "pooler")}
    return Bert(BertShape(**{key: value for key, value in options.items() if key not in apart}), **apart)


def _auto(options: Mapping[str, Any]) -> Encoder:
    from polytask.encoder.auto import build_auto

    return build_auto(options)


_BUILDERS: dict[str, Callable[[Mapping[str, Any]], Encoder]] = {
    "bert": _bert,
    "lstm": lambda options: BiLstm(**options),
    "auto": _auto,
}
_MOST_LAYERS = 1000
HARMLESS = 50_000_000
"""Parameters that fit any memory: what is wrong with the weights of so small a model is told when they are read."""


def save_encoder(encoder: Encoder, folder: Path, tokenizer_json: str) -> None:
    """Save an encoder and its tokenizer in Hugging Face layout. Raises UserError where that has none for it."""
    if isinstance(encoder, Bert):
        save_bert(encoder, folder, tokenizer_json)
    elif encoder.describe()["architecture"] == "auto":
        from polytask.encoder.auto import AutoEncoder, save_auto

        assert isinstance(encoder, AutoEncoder)
        save_auto(encoder, folder, tokenizer_json)
    else:
        raise UserError("An lstm encoder has no Hugging Face layout; the run folder itself is what to keep.")


def _load(settings: EncoderSettings, folder: Path) -> Encoder:
    if settings.architecture == "auto":
        from polytask.encoder.auto import load_auto

        return load_auto(folder, dropout=settings.dropout)
    return load_bert(folder, dropout=settings.dropout)


def check_vocabulary(encoder: Encoder, tokenizer: Tokenizer, name: str) -> None:
    """Raise CheckpointError when a tokenizer cannot be the one that an encoder was trained with."""
    known = encoder.describe().get("vocabulary")
    if known is not None and not _LEAST_SHARE * known <= tokenizer.vocabulary <= known:
        raise CheckpointError(
            f"{name}: the tokenizer has {tokenizer.vocabulary} words, the weights {known}: they do not belong together."
        )
