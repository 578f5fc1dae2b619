"""Which encoder and which tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from polytask.config import EncoderSettings
from polytask.data.tokens import Tokenizer
from polytask.encoder.base import Encoder
from polytask.encoder.bert import Bert, BertShape
from polytask.encoder.fetch import local, locate
from polytask.encoder.lstm import BiLstm
from polytask.encoder.weights import load_bert, save_bert, shape_of
from polytask.errors import CheckpointError, RecipeError, UserError
from polytask.runtime.keys import reseed

from .contradictions import Outline

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
    if settings.architecture == "auto":
        from polytask.encoder.automodel import auto_tokenizer

        return Tokenizer.from_json(auto_tokenizer(folder))
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


def rebuild_encoder(description: Mapping[str, Any]) -> Encoder:
    """Return the encoder that ``Encoder.describe`` described, its weights yet to be filled in."""
    options = dict(description)
    architecture = options.pop("architecture", None)
    if architecture == "lstm":
        return BiLstm(**options)
    if architecture == "bert":
        apart = {name: options.pop(name) for name in ("dropout", "attention_dropout", "pooler")}
        return Bert(BertShape(**options), **apart)
    if architecture == "auto":
        from polytask.encoder.automodel import build_auto

        return build_auto(description)
    raise CheckpointError(f"'{architecture}' is not an architecture that polytask knows.")


def save_encoder(encoder: Encoder, folder: Path, tokenizer_json: str) -> None:
    """Save an encoder and its tokenizer in Hugging Face layout. Raises UserError where that has none for it."""
    if isinstance(encoder, Bert):
        save_bert(encoder, folder, tokenizer_json)
    elif encoder.describe()["architecture"] == "auto":
        from polytask.encoder.automodel import AutoEncoder, save_auto

        assert isinstance(encoder, AutoEncoder)
        save_auto(encoder, folder, tokenizer_json)
    else:
        raise UserError("An lstm encoder has no Hugging Face layout; the run folder itself is what to keep.")


def _load(settings: EncoderSettings, folder: Path) -> Encoder:
    if settings.architecture == "auto":
        from polytask.encoder.automodel import load_auto

        return load_auto(folder, dropout=settings.dropout)
    return load_bert(folder, dropout=settings.dropout)


def check_vocabulary(encoder: Encoder, tokenizer: Tokenizer, name: str) -> None:
    """Raise CheckpointError when a tokenizer cannot be the one that an encoder was trained with."""
    known = encoder.describe().get("vocabulary")
    if known is not None and not _LEAST_SHARE * known <= tokenizer.vocabulary <= known:
        raise CheckpointError(
            f"The tokenizer of {name} has {tokenizer.vocabulary} words, its weights {known}: they do not belong together."
        )
