"""What a recipe may say of extra rows to learn from."""

from __future__ import annotations

from polytask.data.augment.base import augmentations
from polytask.errors import RecipeError

from .members import kind_of, text_columns
from .settings import TaskSettings


def check_augment(settings: TaskSettings) -> None:
    """Raise RecipeError for copies that cannot be made, as far as can be told without reading a file."""
    if settings.augment is not None:
        augmentations.create(settings.augment.name, **settings.augment.options)


def check_phrases(settings: TaskSettings) -> None:
    """Raise RecipeError for phrases that the task cannot learn from."""
    if settings.phrases is not None and "phrases" not in kind_of(settings).takes:
        raise RecipeError("'phrases' are rows with labels, and this task reads none.")
    if settings.phrases is not None and len(text_columns(settings)) == 2:
        raise RecipeError("'phrases' are single texts, and this task reads two.")
