"""A run folder -> its recipe, tokenizer, tasks and encoder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from polytask.data.tokens import Tokenizer
from polytask.encoder.base import Encoder
from polytask.errors import CheckpointError, RecipeError, RunFolderError, shown
from polytask.recipe.load import Loaded, load_recipe
from polytask.recipe.settings import Member, Recipe
from polytask.run.folder import RunFolder
from polytask.tasks.kinds.base import kinds
from polytask.tasks.task import Task

from .encoder import rebuild_encoder
from .model import new_task


def new_tasks(recipe: Recipe, encoder: Encoder) -> dict[str, Task]:
    """Return the records of a resolved recipe's tasks."""
    tasks = {}
    for name, settings in recipe.tasks.items():
        length = settings.max_length or min(encoder.positions, 512)
        labels = settings.labels if isinstance(settings.labels, dict) else {}
        tasks[name] = new_task(name, settings, labels, length)
    return tasks


def open_run(path: Path) -> tuple[RunFolder, Loaded, dict[str, Any]]:
    """Return a run folder, its resolved recipe with what train has settled, and what it noted about where it was made.

    Raises RunFolderError when it is no run folder, of another format, or when its recipe was altered.
    """
    folder = RunFolder.open(path)
    if not folder.index_path.exists():
        raise RunFolderError(f"{path} is not a run folder: it holds no {folder.index_path.name}.")
    index = folder.read_index()
    try:
        notes = tomllib.loads(folder.checked(folder.recipe, index).read_text(encoding="utf-8")).get("resolved")
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise RunFolderError(f"{folder.recipe} is damaged: {error}.") from error
    if not isinstance(notes, dict):
        raise RunFolderError(f"{path} is not a run folder: its recipe.toml was not written by a run.")
    loaded = load_recipe(folder.recipe)
    try:
        recipe = with_settled(loaded.recipe, notes.get("settled", {}))
    except (AttributeError, KeyError, TypeError, ValueError, RecipeError) as error:
        raise RunFolderError(f"{folder.recipe} is damaged: what it says of 'settled' fits no task.") from error
    return folder, replace(loaded, recipe=recipe), notes


def open_tokenizer(folder: RunFolder) -> Tokenizer:
    """Return a run folder's tokenizer."""
    path = folder.checked(folder.tokenizer, folder.read_index())
    return Tokenizer.from_file(path)


def open_encoder(folder: RunFolder) -> Encoder:
    """Return a run folder's encoder, its weights yet to be filled in."""
    path = folder.checked(folder.encoder, folder.read_index())
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(description, dict):
            raise ValueError(f"it holds {shown(description)}, not a JSON object")
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged: {error}.") from error
    try:
        return rebuild_encoder(description, _most_parameters(folder))
    except CheckpointError as error:
        raise RunFolderError(f"{path} is damaged: {error}") from error


def _most_parameters(folder: RunFolder) -> int:
    """Return how many numbers the largest file of weights can hold."""
    sizes = [path.stat().st_size for path in (folder.path / "weights").glob("*.safetensors")]
    return max(sizes, default=0) // 4


def with_settled(recipe: Recipe, settled: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """Return a recipe with the options in it that its tasks' rows of train decided, so that no one reads train again."""
    tasks = dict(recipe.tasks)
    for name, options in settled.items():
        kind = tasks[name].kind
        assert kind is not None
        filled = Member(name=kind.name, **{**kind.options, **options})
        kinds.check(filled.name, filled.options)
        tasks[name] = tasks[name].model_copy(update={"kind": filled})
    return recipe.model_copy(update={"tasks": tasks})
