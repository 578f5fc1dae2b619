"""From a recipe to a finished run folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from polytask.data.sources import Source, header, read_table
from polytask.runtime.folder import RunFolder
from polytask.runtime.processes import join
from polytask.training.watch import Watcher

from .build import build, check, rebuild, write_run
from .load import load_recipe


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
    tables: dict[str, Source] = {}
    if isinstance(recipe, Mapping):
        recipe, tables = _apart(recipe, path)
    loaded = load_recipe(recipe, overrides)
    check(loaded.recipe)
    folder = RunFolder.create(path) if processes.leads else RunFolder(path)
    try:
        for name, table in tables.items():
            _keep(table, Path(name))
        parts = build(loaded, watcher.note)
        if processes.leads:
            write_run(parts, folder, processes)
    except BaseException:
        # Nothing half-written: a folder that never became a run must not stand in the way of the next attempt.
        if processes.leads:
            shutil.rmtree(path, ignore_errors=True)
        raise
    processes.wait()
    parts.trainer(folder, watcher, processes).run()
    return path


def resume(run: str | Path, *, elsewhere: bool = False, watcher: Watcher | None = None) -> Path:
    """Go on with an interrupted run; the result is what it would have been without the interruption, bit for bit."""
    watcher = watcher or Watcher()
    processes = join()
    folder, parts = rebuild(Path(run), watcher.note, processes, elsewhere=elsewhere)
    parts.trainer(folder, watcher, processes).run()
    return Path(run)


def _apart(recipe: Mapping[str, Any], run: Path) -> tuple[dict[str, Any], dict[str, Source]]:
    """Replace tables in memory by the files in the run folder that will hold them."""
    tables: dict[str, Source] = {}
    tasks: dict[str, Any] = {}
    for name, settings in dict(recipe.get("tasks", {})).items():
        tasks[name] = dict(settings)
        for split in ("train", "dev"):
            value = settings.get(split)
            if value is not None and not isinstance(value, str | Path | int | float):
                place = str((run / "tables" / f"{name}-{split}.jsonl").resolve())
                tables[place], tasks[name][split] = value, place
            elif isinstance(value, Path):
                tasks[name][split] = str(value)
    return {**recipe, "tasks": tasks}, tables


def _keep(table: Source, path: Path) -> None:
    columns = header(table)
    data = read_table(table, columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for cells in zip(*data.columns.values(), strict=True):
            file.write(json.dumps(dict(zip(columns, cells, strict=True)), ensure_ascii=False) + "\n")
