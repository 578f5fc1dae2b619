"""A recipe -> a trainer: into a new run folder, or from one that was left."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from polytask.config import Member, Recipe, TaskSettings, to_toml
from polytask.data.rows import TaskRows
from polytask.data.tokens import Tokenizer
from polytask.encoder.base import Encoder
from polytask.errors import CheckpointError, RecipeError, RunFolderError, TableError, shown
from polytask.model import Model
from polytask.runtime.device import DTYPES, pick_device, pick_precision, surroundings
from polytask.runtime.files import digest, write_text
from polytask.runtime.folder import Index, RunFolder
from polytask.runtime.processes import Processes
from polytask.tasks.kinds.base import Kind, kinds
from polytask.tasks.task import Task
from polytask.training.checkpoint import save_tensors
from polytask.training.loop import Trainer, checkpoint_name
from polytask.training.stages import Stage
from polytask.training.watch import Watcher

from .checks import Problems
from .contradictions import Outline, check_fit
from .encoders import check_vocabulary, find_tokenizer, glance, new_encoder, rebuild_encoder
from .extra import add_rows, resolved_extra
from .fits import check_reach
from .load import Loaded, load_recipe
from .members import new_kind, new_model, new_task
from .objectives import adopt_language_heads
from .stages import new_stage, too_short
from .tables import Tables, all_texts, check_unchanged, read_tables, task_rows, training_rows
from .visible import spelt_out


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
    extra_rows: dict[str, dict[str, int]]
    settled: dict[str, dict[str, Any]]
    """Options of each task's kind that its rows of train decided."""

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
    if left is None and (foreseen := glance(loaded.recipe.encoder, loaded.base)):
        _settle_fit(loaded.recipe, foreseen)
    device = pick_device(loaded.recipe.device)
    tables = add_rows(read_tables(loaded.recipe, loaded.base, told), loaded.recipe, loaded.base, told)
    recipe = _resolved(loaded, tables, device)
    if left is not None:
        check_unchanged(notes.get("fingerprints", {}), tables, left.path)
        tokenizer, encoder = open_tokenizer(left), open_encoder(left)
    else:
        tokenizer = find_tokenizer(recipe.encoder, loaded.base, lambda: all_texts(tables))
        encoder = new_encoder(recipe.encoder, tokenizer, loaded.base, recipe.seed)
    check_vocabulary(encoder, tokenizer, "this run")
    _settle_fit(recipe, Outline.of(encoder))
    settled = {name: found for name in recipe.tasks if (found := _settled(recipe.tasks[name], tables[name]))}
    tasks = new_tasks(with_settled(recipe, settled), encoder)
    train_rows = {name: training_rows(tables[name].train, task, tokenizer) for name, task in tasks.items()}
    judged = {name: t.dev for name, t in tables.items() if t.dev is not None and not tasks[name].auxiliary}
    dev_rows = {name: task_rows(dev, tasks[name], tokenizer) for name, dev in judged.items()}
    _tell_truncated(tasks, train_rows, dev_rows, told)
    model = new_model(encoder, tasks, recipe)
    if left is None:
        adopt_language_heads(model, recipe, loaded.base, told)
    model.to(device)
    stages = [new_stage(number, recipe, train_rows, encoder) for number in range(len(recipe.stages))]
    check_reach(model, stages)
    _tell_unseen(stages, told)
    _tell_idle(recipe, stages, told)
    _tell_too_short(recipe, stages, told)
    fingerprints = {name: table.fingerprints for name, table in tables.items()}
    extra_rows = {name: dict(table.extra) for name, table in tables.items() if table.extra}
    return Parts(
        recipe, tokenizer, tasks, train_rows, dev_rows, model, stages, device, fingerprints, extra_rows, settled
    )


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


def _settle_fit(recipe: Recipe, outline: Outline) -> None:
    problems = Problems()
    check_fit(recipe, outline, problems)
    problems.settle()


def write_run(parts: Parts, folder: RunFolder, processes: Processes) -> None:
    """Write what a run is resumed from, even before its first step: tokenizer, encoder, first weights, resolved recipe."""
    write_text(folder.tokenizer, parts.tokenizer.json)
    encoder = next(iter(parts.model.encoders.values()))  # all are built alike; the recipe says whose each is
    assert isinstance(encoder, Encoder)
    write_text(folder.encoder, json.dumps(encoder.describe(), indent=1))
    start = checkpoint_name(0, 0)
    save_tensors(dict(parts.model.named_parameters()), folder.weights(start))
    notes = {"surroundings": surroundings(parts.device, processes.size), "fingerprints": parts.fingerprints}
    notes |= {"extra_rows": parts.extra_rows} if parts.extra_rows else {}
    notes |= {"settled": parts.settled} if parts.settled else {}
    recipe = to_toml(_with_own_tables_relative(parts.recipe, folder), notes)
    written = (folder.tokenizer, folder.encoder, folder.weights(start))
    hashes = {folder.name_of(path): digest(path) for path in written}
    hashes[folder.name_of(folder.recipe)] = hashlib.sha256(recipe.encode()).hexdigest()
    folder.write_index(Index(last=start, hashes=hashes))
    write_text(folder.recipe, recipe)  # the last: from here on it is a run folder


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


def rebuild(folder: RunFolder, told: Callable[[str], None], processes: Processes, *, elsewhere: bool) -> Parts:
    """Return an interrupted run's parts. Raises RunFolderError or TableError when something is not as it was.

    On another processor kind, torch version, thread count or number of processes the result would not be
    bit-identical: that is refused unless ``elsewhere``.
    """
    path = folder.path
    _, loaded, notes = open_run(path)
    here = surroundings(pick_device(loaded.recipe.device), processes.size)
    changes = _changes(notes.get("surroundings", {}), here)
    if changes and not elsewhere:
        raise RunFolderError(
            f"{path} was trained elsewhere ({'; '.join(changes)}), so the result would not be bit-identical. "
            "Go on all the same with --elsewhere."
        )
    return build(loaded, told, folder, notes)


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
    return spelt_out(recipe.model_copy(update=changes))


def _resolved_task(settings: TaskSettings, tables: Tables, folder: Path) -> TaskSettings:
    changes: dict[str, Any] = {"labels": tables.labels or None}
    for split in ("train", "dev"):
        value = getattr(settings, split)
        if isinstance(value, str) and not value.startswith("hub:"):
            changes[split] = str((folder / Path(value).expanduser()).resolve())
    changes |= resolved_extra(settings, folder)
    return settings.model_copy(update=changes)


def _with_own_tables_relative(recipe: Recipe, folder: RunFolder) -> Recipe:
    # So that a run whose tables it keeps itself can be moved.
    own = folder.path.resolve()
    tasks = {}
    for name, settings in recipe.tasks.items():
        tables = {split: getattr(settings, split) for split in ("train", "dev")}
        inside = {s: t for s, t in tables.items() if isinstance(t, str) and Path(t).is_relative_to(own)}
        tasks[name] = settings.model_copy(update={s: str(Path(t).relative_to(own)) for s, t in inside.items()})
    return recipe.model_copy(update={"tasks": tasks})


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


def _settled(settings: TaskSettings, tables: Tables) -> dict[str, Any]:
    kind = new_kind(settings, tables.labels)
    codes = [kind.encode(label) for label in tables.train.labels]
    try:
        return kind.settle(codes, _shares(settings, kind, codes))
    except ValueError as error:
        raise TableError(f"{tables.train.name} {error}.") from error


def _shares(settings: TaskSettings, kind: Kind, codes: Sequence[Any]) -> list[float] | None:
    """Return how often each row comes up in a pass that resampling evens out; None for equally often."""
    if settings.resample is None:
        return None
    _, groups_N, sizes_G = np.unique(
        kind.groups(kind.collate(codes), settings.resample.bins), return_inverse=True, return_counts=True
    )
    shares: list[float] = (1 / sizes_G[groups_N]).tolist()
    return shares


def _tell_unseen(stages: Sequence[Stage], told: Callable[[str], None]) -> None:
    for stage in stages:
        for name, passes in stage.plan.passes.items():
            if passes < 1:
                told(
                    f"Stage {stage.number + 1} takes {passes:.0%} of a pass over task '{name}': "
                    "the other rows do not come up in it."
                )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [f"{key}: {before.get(key)}, here {now[key]}" for key in now if before.get(key) != now[key]]


def _tell_idle(recipe: Recipe, stages: list[Stage], told: Callable[[str], None]) -> None:
    for name in recipe.tasks:
        if not any(name in stage.tasks for stage in stages):
            told(f"Task '{name}' takes part in no stage: its head stays as it was drawn.")
        if recipe.tasks[name].evaluate is False and recipe.tasks[name].dev is not None:
            told(f"Task '{name}': its dev table is not scored, because of evaluate = false.")


def _tell_too_short(recipe: Recipe, stages: Sequence[Stage], told: Callable[[str], None]) -> None:
    for stage, settings in zip(stages, recipe.stages, strict=True):
        for text in too_short(stage, settings):
            told(f"Stage {stage.number + 1}: {text}")


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
