"""A recipe -> a trainer: into a new run folder, or from one that was left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from polytask.data.rows import TaskRows
from polytask.data.tokens import Tokenizer
from polytask.encoder.base import Outline
from polytask.encoder.foreign.fetch import locate
from polytask.errors import TableError
from polytask.evaluation.aggregates.base import aggregates
from polytask.model import Model
from polytask.recipe.facts import new_kind, with_poolings
from polytask.recipe.reading import Loaded
from polytask.recipe.rules.encoder import fit_rules
from polytask.recipe.rules.problems import Problems
from polytask.recipe.settings import Recipe, TaskSettings
from polytask.recipe.show import spelt_out
from polytask.run.folder import RunFolder
from polytask.run.listen import Listener
from polytask.runtime.device import DTYPES, pick_device, pick_precision
from polytask.runtime.processes import Processes
from polytask.tasks.kinds.base import Kind
from polytask.tasks.task import Task
from polytask.training.loop import Trainer
from polytask.training.stages import Stage

from .encoder import check_vocabulary, find_tokenizer, glance, new_encoder
from .extra import add_rows, resolved_extra
from .fits import check_reach
from .model import adopt_heads, new_model
from .opened import new_tasks, open_encoder, open_tokenizer, with_settled
from .record import Splits
from .rows import task_rows, training_rows
from .stages import new_stage, too_short
from .tables import all_texts, check_unchanged, read_tables


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

    def trainer(self, folder: RunFolder, listeners: Sequence[Listener], processes: Processes) -> Trainer:
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
            aggregate=aggregates.create(self.recipe.aggregate.name, **self.recipe.aggregate.options),
            checkpoint_every=self.recipe.checkpoint_every,
            listeners=listeners,
            processes=processes,
        )


def build(
    loaded: Loaded,
    note: Callable[[str], None] = lambda text: None,
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
    tables = add_rows(read_tables(loaded.recipe, loaded.base, note), loaded.recipe, loaded.base, note)
    recipe = _resolved(loaded, tables, device)
    if left is not None:
        check_unchanged(notes.get("fingerprints", {}), tables, left.path)
        tokenizer, encoder = open_tokenizer(left), open_encoder(left)
    else:
        tokenizer = find_tokenizer(recipe.encoder, loaded.base, lambda: all_texts(tables))
        encoder = new_encoder(recipe.encoder, tokenizer, loaded.base, recipe.seed)
    check_vocabulary(encoder, tokenizer, "this run")
    recipe = spelt_out(with_poolings(recipe, encoder.pooling_hint))
    _settle_fit(recipe, Outline.of(encoder))
    settled = {name: found for name in recipe.tasks if (found := _settled(recipe.tasks[name], tables[name]))}
    tasks = new_tasks(with_settled(recipe, settled), encoder)
    train_rows = {name: training_rows(tables[name].train, task, tokenizer) for name, task in tasks.items()}
    judged = {name: t.dev for name, t in tables.items() if t.dev is not None and not tasks[name].auxiliary}
    dev_rows = {name: task_rows(dev, tasks[name], tokenizer) for name, dev in judged.items()}
    _tell_truncated(tasks, train_rows, dev_rows, note)
    model = new_model(encoder, tasks, recipe)
    if left is None and recipe.encoder.checkpoint is not None and any(task.kind.adopts for task in tasks.values()):
        adopt_heads(model, tasks, locate(recipe.encoder.checkpoint, base=loaded.base), note)
    model.to(device)
    stages = [new_stage(number, recipe, train_rows) for number in range(len(recipe.stages))]
    check_reach(model, stages)
    _tell_unseen(stages, note)
    _tell_idle(recipe, stages, note)
    _tell_too_short(recipe, stages, note)
    fingerprints = {name: table.fingerprints for name, table in tables.items()}
    extra_rows = {name: dict(table.extra) for name, table in tables.items() if table.extra}
    return Parts(
        recipe, tokenizer, tasks, train_rows, dev_rows, model, stages, device, fingerprints, extra_rows, settled
    )


def _settle_fit(recipe: Recipe, outline: Outline) -> None:
    problems = Problems()
    problems.add_all(fit_rules(recipe, outline))
    problems.raise_all()


def _resolved(loaded: Loaded, tables: Mapping[str, Splits], device: torch.device) -> Recipe:
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


def _resolved_task(settings: TaskSettings, tables: Splits, folder: Path) -> TaskSettings:
    changes: dict[str, Any] = {"labels": tables.labels or None}
    for split in ("train", "dev"):
        value = getattr(settings, split)
        if isinstance(value, str) and not value.startswith("hub:"):
            changes[split] = str((folder / Path(value).expanduser()).resolve())
    changes |= resolved_extra(settings, folder)
    return settings.model_copy(update=changes)


def _settled(settings: TaskSettings, tables: Splits) -> dict[str, Any]:
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


def _tell_unseen(stages: Sequence[Stage], note: Callable[[str], None]) -> None:
    for stage in stages:
        for name, passes in stage.plan.passes.items():
            if passes < 1:
                note(
                    f"Stage {stage.number + 1} takes {passes:.0%} of a pass over task '{name}': "
                    "the other rows do not come up in it."
                )


def _tell_idle(recipe: Recipe, stages: list[Stage], note: Callable[[str], None]) -> None:
    for name in recipe.tasks:
        if not any(name in stage.tasks for stage in stages):
            note(f"Task '{name}' takes part in no stage: its head stays as it was drawn.")
        if recipe.tasks[name].evaluate is False and recipe.tasks[name].dev is not None:
            note(f"Task '{name}': its dev table is not scored, because of evaluate = false.")


def _tell_too_short(recipe: Recipe, stages: Sequence[Stage], note: Callable[[str], None]) -> None:
    for stage, settings in zip(stages, recipe.stages, strict=True):
        for text in too_short(stage, settings):
            note(f"Stage {stage.number + 1}: {text}")


def _tell_truncated(
    tasks: Mapping[str, Task],
    train: Mapping[str, TaskRows],
    dev: Mapping[str, TaskRows],
    note: Callable[[str], None],
) -> None:
    for split, tables in (("train", train), ("dev", dev)):
        for name, rows in tables.items():
            if rows.truncated:
                note(
                    f"Task '{name}', {split}: {rows.truncated} of {len(rows)} inputs are longer than "
                    f"{tasks[name].max_length} tokens and are cut at the end (of a pair the longer text first)."
                )
