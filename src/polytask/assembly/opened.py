"""A run folder -> its recipe, tokenizer, tasks and encoder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from polytask.data.tokens import Tokenizer
from polytask.encoder.base import Encoder
from polytask.errors import CheckpointError, RecipeError, Remedy, RunFolderError, listed, shown
from polytask.model import Model
from polytask.recipe.facts import encoder_of
from polytask.recipe.reading import Loaded, invalid, read_recipe
from polytask.recipe.rules.names import name_rules
from polytask.recipe.settings import Member, Recipe
from polytask.run.folder import RunFolder
from polytask.tasks.kinds.base import kinds
from polytask.tasks.task import Task

from .encoder import HARMLESS, rebuild_encoder
from .model import new_head, new_model, new_task


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

    The recipe is read as strictly as any; the rules that it passed when the run was made are not asked again.

    Raises RunFolderError when it is no run folder, of another format, or when its recipe was altered.
    """
    folder = RunFolder.open(path)
    if not folder.index_path.exists():
        raise RunFolderError(f"{path} is not a run folder: it holds no {folder.index_path.name}.")
    index = folder.read_index()
    try:
        tables = tomllib.loads(folder.checked(folder.recipe, index).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise RunFolderError(f"{folder.recipe} is damaged: {error}.") from error
    notes = tables.get("resolved")
    if not isinstance(notes, dict):
        raise RunFolderError(f"{path} is not a run folder: its recipe.toml was not written by a run.")
    _check_members(notes.get("members", []), path)
    tables.pop("resolved")
    recipe, problems = read_recipe(tables)
    problems += [] if recipe is None else name_rules(recipe)
    if recipe is None or problems:
        raise invalid(str(folder.recipe), [f"{place}: {sentence}" for place, sentence in problems])
    try:
        recipe = with_settled(recipe, notes.get("settled", {}))
    except (AttributeError, KeyError, TypeError, ValueError, RecipeError) as error:
        raise RunFolderError(f"{folder.recipe} is damaged: what it says of 'settled' fits no task.") from error
    return folder, Loaded(recipe, folder.recipe.resolve().parent), notes


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


def open_model(folder: RunFolder, recipe: Recipe, tasks: Mapping[str, Task], encoder: Encoder) -> Model:
    """Return a run's model, its weights yet to be filled in.

    Raises RunFolderError for heads or copies of encoders that its weights could not fill, before memory is taken for them.
    """
    most = max(_most_parameters(folder), HARMLESS)
    try:
        with torch.device("meta"):
            heads = [new_head(task, recipe.tasks[name], encoder) for name, task in tasks.items()]
    except (RuntimeError, OverflowError, TypeError) as error:  # what torch says of numbers that it cannot count to
        raise RunFolderError(f"{folder.recipe} is damaged: it describes heads that no memory holds.") from error
    users = {encoder_of(name, recipe) for name in tasks}
    numbers = sum(p.numel() for head in heads for p in head.parameters())
    numbers += len(users) * sum(p.numel() for p in encoder.parameters())
    if numbers > most:
        raise RunFolderError(
            f"{folder.recipe} is damaged: it describes {numbers:,} parameters; the weights hold {most:,}."
        )
    return new_model(encoder, tasks, recipe)


def _check_members(noted: Any, path: Path) -> None:
    """Raise RunFolderError for members from outside that a run needs and that nobody has brought along."""
    if not isinstance(noted, list) or not noted:
        return
    from polytask.recipe.rooms import ROOM_CALLED

    for member in noted:
        room = ROOM_CALLED.get(str(member.get("room")))
        if room is None or member.get("name") not in room.names():
            raise RunFolderError(
                f"{path} uses {listed([str(member.get('name'))])} of the {member.get('room')}, which came from "
                f"{member.get('origin')} and is not known here.",
                Remedy("members"),
            )
