"""A recipe -> a trainer: into a new run folder, or from one that was left."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from polytask.config import Recipe, TaskSettings, to_toml
from polytask.data.rows import TaskRows
from polytask.data.tokens import Tokenizer
from polytask.encoder.base import Encoder
from polytask.errors import RecipeError, RunFolderError
from polytask.model import Model
from polytask.runtime.device import DTYPES, pick_device, pick_precision, surroundings
from polytask.runtime.files import write_text
from polytask.runtime.folder import Index, RunFolder
from polytask.runtime.processes import Processes
from polytask.tasks.task import Task
from polytask.training.checkpoint import save_tensors
from polytask.training.loop import Trainer, checkpoint_name
from polytask.training.stages import Stage
from polytask.training.watch import Watcher

from .encoders import check_encoder, find_tokenizer, new_encoder, rebuild_encoder
from .load import Loaded, load_recipe
from .members import check_recipe, new_model, new_task
from .stages import new_stage
from .tables import Tables, all_texts, check_unchanged, read_tables, task_rows


@dataclass(frozen=True)
class Parts:
    """Everything that a recipe turned into."""

    recipe: Recipe
    tokenizer: Tokenizer
    tasks: dict[str, Task]
    train_rows: dict[str, TaskRows]
    dev_rows: dict[str, TaskRows]
    model: Model
    stages: list[Stage]
    device: torch.device
    fingerprints: dict[str, dict[str, str]]

    def trainer(self, folder: RunFolder, watcher: Watcher, processes: Processes) -> Trainer:
        """Return what runs the stages into a run folder."""
        return Trainer(
            model=self.model,
            tasks=self.tasks,
            train_rows=self.train_rows,
            dev_rows=self.dev_rows,
            stages=self.stages,
            folder=folder,
            seed=self.recipe.seed,
            device=self.device,
            dtype=DTYPES[self.recipe.precision],
            aggregate=self.recipe.aggregate,
            checkpoint_every=self.recipe.checkpoint_every,
            watcher=watcher,
            processes=processes,
        )


def check(recipe: Recipe) -> None:
    """Raise RecipeError for whatever is wrong with a recipe that can be told without reading a table."""
    check_encoder(recipe.encoder)
    check_recipe(recipe)


def build(
    loaded: Loaded,
    told: Callable[[str], None] = lambda text: None,
    left: RunFolder | None = None,
    notes: Mapping[str, Any] = MappingProxyType({}),
) -> Parts:
    """Turn a recipe into its parts: read tables, tokenise, load or draw the encoder, lay out the stages.

    ``left`` is the run folder that a resumed run left: its tokenizer and encoder are taken, not the recipe's, and its
    tables must be as it noted them.
    Raises RecipeError, TableError or CheckpointError with everything that is wrong with the kind it stumbled over.
    """
    check(loaded.recipe)
    device = pick_device(loaded.recipe.device)
    tables = read_tables(loaded.recipe, loaded.base, told)
    recipe = _resolved(loaded, tables, device)
    if left is not None:
        check_unchanged(notes.get("fingerprints", {}), tables, left.path)
        tokenizer, encoder = open_tokenizer(left), open_encoder(left)
    else:
        tokenizer = find_tokenizer(recipe.encoder, loaded.base, lambda: all_texts(tables))
        encoder = new_encoder(recipe.encoder, tokenizer, loaded.base, recipe.seed)
    tasks = new_tasks(recipe, encoder)
    train_rows = {name: task_rows(tables[name].train, task, tokenizer) for name, task in tasks.items()}
    dev_rows = {name: task_rows(t.dev, tasks[name], tokenizer) for name, t in tables.items() if t.dev is not None}
    _tell_truncated(tasks, train_rows, dev_rows, told)
    model = new_model(encoder, tasks, recipe).to(device)
    stages = [new_stage(number, recipe, train_rows, encoder) for number in range(len(recipe.stages))]
    fingerprints = {name: table.fingerprints for name, table in tables.items()}
    return Parts(recipe, tokenizer, tasks, train_rows, dev_rows, model, stages, device, fingerprints)


def new_tasks(recipe: Recipe, encoder: Encoder) -> dict[str, Task]:
    """Return the records of a resolved recipe's tasks."""
    tasks = {}
    for name, settings in recipe.tasks.items():
        length = settings.max_length or min(encoder.positions, 512)
        if length > encoder.positions:
            raise RecipeError(f"tasks.{name}.max_length is {length}; the encoder takes {encoder.positions} tokens.")
        labels = settings.labels if isinstance(settings.labels, dict) else {}
        tasks[name] = new_task(name, settings, labels, length)
    return tasks


def write_run(parts: Parts, folder: RunFolder, processes: Processes) -> None:
    """Write what a run is resumed from, even before its first step: tokenizer, encoder, first weights, resolved recipe."""
    write_text(folder.tokenizer, parts.tokenizer.json)
    encoder = parts.model.encoders["shared"]
    assert isinstance(encoder, Encoder)
    write_text(folder.encoder, json.dumps(encoder.describe(), indent=1))
    start = checkpoint_name(0, 0)
    save_tensors(dict(parts.model.named_parameters()), folder.weights(start))
    folder.write_index(Index(last=start))
    notes = {"surroundings": surroundings(parts.device, processes.size), "fingerprints": parts.fingerprints}
    write_text(folder.recipe, to_toml(parts.recipe, notes))  # the last: from here on it is a run folder


def open_run(path: Path) -> tuple[RunFolder, Loaded, dict[str, Any]]:
    """Return a run folder, its resolved recipe, and what it noted about where it was made."""
    folder = RunFolder.open(path)
    try:
        notes = tomllib.loads(folder.recipe.read_text(encoding="utf-8")).get("resolved")
    except tomllib.TOMLDecodeError as error:
        raise RunFolderError(f"{folder.recipe} is damaged: {error}.") from error
    if not isinstance(notes, dict):
        raise RunFolderError(f"{path} is not a run folder: its recipe.toml was not written by a run.")
    return folder, load_recipe(folder.recipe), notes


def open_tokenizer(folder: RunFolder) -> Tokenizer:
    """Return a run folder's tokenizer."""
    if not folder.tokenizer.is_file():
        raise RunFolderError(f"{folder.tokenizer} is missing.")
    return Tokenizer.from_json(folder.tokenizer.read_text(encoding="utf-8"))


def open_encoder(folder: RunFolder) -> Encoder:
    """Return a run folder's encoder, its weights yet to be filled in."""
    try:
        return rebuild_encoder(json.loads(folder.encoder.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunFolderError(f"{folder.encoder} is missing or damaged: {error}.") from error


def rebuild(
    path: Path, told: Callable[[str], None], processes: Processes, *, elsewhere: bool
) -> tuple[RunFolder, Parts]:
    """Return an interrupted run's parts. Raises RunFolderError or TableError when something is not as it was.

    On another processor kind, torch version, thread count or number of processes the result would not be
    bit-identical: that is refused unless ``elsewhere``.
    """
    folder, loaded, notes = open_run(path)
    here = surroundings(pick_device(loaded.recipe.device), processes.size)
    changes = _changes(notes.get("surroundings", {}), here)
    if changes and not elsewhere:
        raise RunFolderError(
            f"{path} was trained elsewhere ({'; '.join(changes)}), so the result would not be bit-identical. "
            "Go on all the same with --elsewhere."
        )
    return folder, build(loaded, told, folder, notes)


def _resolved(loaded: Loaded, tables: Mapping[str, Tables], device: torch.device) -> Recipe:
    recipe = loaded.recipe
    folder = loaded.base / Path(recipe.data or ".").expanduser()
    tasks = {name: _resolved_task(settings, tables[name], folder) for name, settings in recipe.tasks.items()}
    changes = {
        "tasks": tasks,
        "data": None,
        "precision": pick_precision(recipe.precision, device),
        "device": device.type,
    }
    return recipe.model_copy(update=changes)


def _resolved_task(settings: TaskSettings, tables: Tables, folder: Path) -> TaskSettings:
    changes: dict[str, Any] = {"labels": tables.labels or None}
    for split in ("train", "dev"):
        value = getattr(settings, split)
        if isinstance(value, str) and not value.startswith("hub:"):
            changes[split] = str((folder / Path(value).expanduser()).resolve())
    return settings.model_copy(update=changes)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [f"{key}: {before.get(key)}, here {now[key]}" for key in now if before.get(key) != now[key]]


def _tell_truncated(
    tasks: Mapping[str, Task],
    train: Mapping[str, TaskRows],
    dev: Mapping[str, TaskRows],
    told: Callable[[str], None],
) -> None:
    for split, tables in (("train", train), ("dev", dev)):
        for name, rows in tables.items():
            if rows.truncated:
                told(
                    f"Task '{name}', {split}: {rows.truncated} of {len(rows)} inputs are longer than "
                    f"{tasks[name].max_length} tokens and are cut at the end (of a pair the longer text first)."
                )
