"""What a masked language model needs: its masking, its head, the checkpoint's own weights for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from polytask.data.masking import Masking
from polytask.data.tokens import Tokenizer
from polytask.encoder.base import Encoder
from polytask.encoder.bert import ACTIVATIONS, Bert
from polytask.encoder.foreign.fetch import locate
from polytask.encoder.foreign.names import load_language_head
from polytask.errors import CheckpointError, RecipeError
from polytask.heads.language import LanguageHead
from polytask.heads.task import TokenHead
from polytask.model import Model
from polytask.recipe.settings import Recipe
from polytask.tasks.kinds.base import Kind
from polytask.tasks.kinds.mlm import MaskedLanguage


def new_masking(kind: Kind, tokenizer: Tokenizer) -> Masking | None:
    """Return what masks the tokens of a task; None for most kinds. Raises RecipeError without a token to mask with."""
    if not isinstance(kind, MaskedLanguage):
        return None
    if tokenizer.mask is None:
        raise RecipeError("'mlm' needs a tokenizer that has [MASK] or <mask>; this one has neither.")
    return Masking(tokenizer.mask, tokenizer.ordinary(), kind.rate)


def new_token_head(name: str, encoder: Encoder) -> TokenHead:
    """Return a language model's head, freshly drawn, on an encoder's word table."""
    if not isinstance(encoder, Bert):
        raise RecipeError(f"tasks.{name}: 'mlm' needs the word table of our own BERT.")
    shape = encoder.shape
    head = LanguageHead(shape.width, shape.vocabulary, ACTIVATIONS[shape.activation], shape.epsilon)
    return TokenHead(head, encoder.embeddings.word.decode)


def adopt_language_heads(model: Model, recipe: Recipe, base: Path, note: Callable[[str], None]) -> None:
    """Fill the heads of language models with the checkpoint's own, where it has one."""
    heads = {name: head for name, head in model.heads.items() if isinstance(head, TokenHead)}
    if not heads or recipe.encoder.checkpoint is None:
        return
    folder = locate(recipe.encoder.checkpoint, base=base)
    stored = load_language_head(folder)
    for name, head in heads.items():
        whose = "is new: the checkpoint has none" if stored is None else "is the checkpoint's own"
        note(f"Task '{name}': the masked-language-model head {whose}.")
        for own, parameter in head.head.named_parameters():
            if stored is not None:
                _fill(parameter, stored[own], folder)


def _fill(parameter: nn.Parameter, stored: Tensor, folder: Path) -> None:
    if parameter.shape != stored.shape:
        shapes = f"{tuple(stored.shape)}; {tuple(parameter.shape)} is wanted"
        raise CheckpointError(f"The masked-language-model head of {folder} has a tensor of the shape {shapes}.")
    with torch.no_grad():
        parameter.copy_(stored)
