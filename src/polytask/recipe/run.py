"""From a recipe to a finished run folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from polytask.config import TaskSettings
from polytask.data.audit import Audit
from polytask.data.sources import Source, read_table
from polytask.runtime.folder import RunFolder
from polytask.runtime.processes import join
from polytask.training.watch import Watcher

from .build import build, rebuild, write_run
from .load import load_recipe
from .members import text_columns


def train(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    overrides: Iterable[str] = (),
    watcher: Watcher | None = None,
) -> Path:
    """Train a recipe (a TOML file, a bundled name, or tables as TOML would give them) into a new run folder.

    In a mapping, a task's ``train`` and ``dev`` may be lists of dicts or DataFrames; they are kept in the run folder.
    Returns the folder. Raises RecipeError, TableError, CheckpointError, RunFolderError; Interrupted after Ctrl-C.
    """
    watcher = watcher or Watcher()
    processes = join()
    path = Path(out)
    tables: dict[tuple[str, str], Source] = {}
    if isinstance(recipe, Mapping):
        recipe, tables = _apart(recipe, path)
    loaded = load_recipe(recipe, overrides)
    with RunFolder.claimed(path) if processes.leads else nullcontext(RunFolder(path)) as folder:
        for (name, split), table in tables.items():
            _keep(table, loaded.recipe.tasks[name], _place(path, name, split))
        parts = build(loaded, watcher.note)
        if processes.leads:
            write_run(parts, folder, processes)
        processes.wait()
        parts.trainer(folder, watcher, processes).run()
    return path


def resume(run: str | Path, *, elsewhere: bool = False, watcher: Watcher | None = None) -> Path:
    """Go on with an interrupted run; the result is what it would have been without the interruption, bit for bit."""
    watcher = watcher or Watcher()
    processes = join()
    folder = RunFolder.open(Path(run))
    with folder.locked() if processes.leads else nullcontext():
        parts = rebuild(folder, watcher.note, processes, elsewhere=elsewhere)
        parts.trainer(folder, watcher, processes).run()
    return Path(run)


def _apart(recipe: Mapping[str, Any], run: Path) -> tuple[dict[str, Any], dict[tuple[str, str], Source]]:
    """Replace tables in memory by the files in the run folder that will hold them."""
    tables: dict[tuple[str, str], Source] = {}
    given = recipe.get("tasks")
    if not isinstance(given, Mapping) or not all(isinstance(settings, Mapping) for settings in given.values()):
        return dict(recipe), tables  # no recipe at all; whoever reads it says so
    tasks: dict[str, Any] = {}
    for name, settings in given.items():
        tasks[name] = dict(settings)
        for split in ("train", "dev"):
            value = settings.get(split)
            if value is not None and not isinstance(value, str | Path | int | float):
                tables[name, split], tasks[name][split] = value, str(_place(run, name, split).resolve())
            elif isinstance(value, Path):
                tasks[name][split] = str(value)
    return {**recipe, "tasks": tasks}, tables


def _place(run: Path, name: str, split: str) -> Path:
    return run / "tables" / f"{name}-{split}.jsonl"


def _keep(table: Source, settings: TaskSettings, path: Path) -> None:
    """Write the columns that a task reads of a table in memory, whatever else it holds."""
    columns = [*text_columns(settings), *(column for column in (settings.label, settings.id) if column)]
    data = read_table(table, columns, optional=["id"])
    audit = Audit(data.name, data.unit)
    audit.add_all(data.broken)
    audit.settle(settings.bad_rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for cells in zip(*data.columns.values(), strict=True):
            file.write(json.dumps(dict(zip(data.columns, cells, strict=True)), ensure_ascii=False) + "\n")
