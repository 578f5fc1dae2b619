"""From a recipe to a finished run folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

from polytask.assembly.opened import open_run
from polytask.assembly.parts import Parts, build
from polytask.data.tables.layout import Layout
from polytask.data.tables.problems import RowProblems
from polytask.data.tables.sources import Source, read_table
from polytask.encoder.base import Encoder
from polytask.errors import RecipeError, Remedy, RunFolderError
from polytask.recipe.facts import kind_of, label_columns, layout_of, text_columns
from polytask.recipe.load import load_recipe
from polytask.recipe.settings import Recipe, TaskSettings
from polytask.recipe.toml import to_toml
from polytask.recipe.walk import members_of
from polytask.registry import OURS, load_members
from polytask.run.folder import RunFolder
from polytask.run.index import Index
from polytask.run.listen import Audience, Listener
from polytask.run.tensors import save_tensors
from polytask.runtime.device import pick_device, surroundings
from polytask.runtime.files import digest, write_text
from polytask.runtime.processes import Processes, join
from polytask.training.saving import checkpoint_name

from .run import Run


def train(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    overrides: Iterable[str] = (),
    members: str | Path | None = None,
    listeners: Sequence[Listener] = (),
) -> Run:
    """Train a recipe (a TOML file, a bundled name, or tables as TOML would give them) into a new run folder.

    ``listeners`` hear what happens, and may ask the run to stop. ``members`` is a folder whose files bring members of the
    open rooms. In a mapping, a task's ``train`` and ``dev`` may be lists of dicts or DataFrames, kept in the run folder.
    Raises RecipeError, TableError, CheckpointError, RunFolderError; Interrupted after Ctrl-C.
    """
    if members is not None:
        load_members(members)
    processes = join()
    audience = Audience(listeners if processes.leads else ())  # what several processes do is told once
    path = Path(out)
    tables: dict[tuple[str, str], Source] = {}
    if isinstance(recipe, Mapping):
        recipe, tables = _apart(recipe, path)
    loaded = load_recipe(recipe, overrides)
    _check_whole_batches(loaded.recipe, processes)
    with RunFolder.claimed(path) if processes.leads else nullcontext(RunFolder(path)) as folder:
        for (name, split), table in tables.items():
            _keep(table, loaded.recipe.tasks[name], _place(path, name, split))
        parts = build(loaded, audience.note)
        if processes.leads:
            write_run(parts, folder, processes)
        processes.wait()
        parts.trainer(folder, audience.listeners, processes).run()
    return Run.open(path)


def resume(
    run: str | PathLike[str],
    *,
    elsewhere: bool = False,
    members: str | Path | None = None,
    listeners: Sequence[Listener] = (),
) -> Run:
    """Go on with an interrupted run; the result is what it would have been without the interruption, bit for bit.

    ``members`` is the folder of members from outside that it was started with, if any.
    """
    if members is not None:
        load_members(members)
    processes = join()
    audience = Audience(listeners if processes.leads else ())  # what several processes do is told once
    folder = RunFolder.open(Path(run))
    with folder.locked() if processes.leads else nullcontext():
        parts = rebuild(folder, audience.note, processes, elsewhere=elsewhere)
        parts.trainer(folder, audience.listeners, processes).run()
    return Run.open(run)


def _check_whole_batches(recipe: Recipe, processes: Processes) -> None:
    """Raise RecipeError for a task whose batches several processes would split, though their rows need each other."""
    for name, task in recipe.tasks.items():
        if processes.size > 1 and kind_of(task).in_batch:
            raise RecipeError(
                f"tasks.{name}: each row's loss is told from the other rows of its batch, which {processes.size} processes "
                "would split; train this task in one process."
            )


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
            if value is not None and not isinstance(value, str | Path | int | float) and not _files(value):
                tables[name, split], tasks[name][split] = value, str(_place(run, name, split).resolve())
            elif isinstance(value, Path):
                tasks[name][split] = str(value)
            elif isinstance(value, Mapping):
                tasks[name][split] = {column: str(file) for column, file in value.items()}
    return {**recipe, "tasks": tasks}, tables


def _files(value: Any) -> bool:
    """Whether a table is a dict from columns to files."""
    return isinstance(value, Mapping) and all(isinstance(file, str | Path) for file in value.values())


def _place(run: Path, name: str, split: str) -> Path:
    return run / "tables" / f"{name}-{split}.jsonl"


def _keep(table: Source, settings: TaskSettings, path: Path) -> None:
    """Write the columns that a task reads of a table in memory, whatever else it holds."""
    columns = [*text_columns(settings), *label_columns(settings), *([settings.id] if settings.id else [])]
    data = read_table(table, columns, optional=["id"], layout=Layout(missing=layout_of(settings).missing))
    audit = RowProblems(data.name, data.unit)
    audit.add_all(data.broken)
    audit.stop_or_count(settings.bad_rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for cells in zip(*data.columns.values(), strict=True):
            file.write(json.dumps(dict(zip(data.columns, cells, strict=True)), ensure_ascii=False) + "\n")


def write_run(parts: Parts, folder: RunFolder, processes: Processes) -> None:
    """Write what a run is resumed from, even before its first step: tokenizer, encoder, first weights, resolved recipe."""
    write_text(folder.tokenizer, parts.tokenizer.json)
    encoder = next(iter(parts.model.encoders.values()))  # all are built alike; the recipe says whose each is
    assert isinstance(encoder, Encoder)
    write_text(folder.encoder, json.dumps(encoder.describe(), indent=1))
    start = checkpoint_name(0, 0)
    save_tensors(dict(parts.model.named_parameters()), folder.weights(start))
    notes: dict[str, Any] = {
        "surroundings": surroundings(parts.device, processes.size),
        "fingerprints": parts.fingerprints,
    }
    notes |= {"extra_rows": parts.extra_rows} if parts.extra_rows else {}
    notes |= {"settled": parts.settled} if parts.settled else {}
    outside = [
        {"room": chosen.registry.room, "name": chosen.name, "origin": origin}
        for chosen in members_of(parts.recipe)
        if (origin := chosen.registry.origin(chosen.name)) != OURS
    ]
    notes |= {"members": outside} if outside else {}
    recipe = to_toml(_with_own_tables_relative(parts.recipe, folder), notes)
    written = (folder.tokenizer, folder.encoder, folder.weights(start))
    hashes = {folder.name_of(path): digest(path) for path in written}
    hashes[folder.name_of(folder.recipe)] = hashlib.sha256(recipe.encode()).hexdigest()
    folder.write_index(Index(last=start, hashes=hashes))
    write_text(folder.recipe, recipe)  # the last: from here on it is a run folder


def rebuild(folder: RunFolder, note: Callable[[str], None], processes: Processes, *, elsewhere: bool) -> Parts:
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
            f"{path} was trained elsewhere ({'; '.join(changes)}), so the result would not be bit-identical.",
            Remedy("elsewhere"),
        )
    return build(loaded, note, folder, notes)


def _with_own_tables_relative(recipe: Recipe, folder: RunFolder) -> Recipe:
    # So that a run whose tables it keeps itself can be moved.
    own = folder.path.resolve()
    tasks = {}
    for name, settings in recipe.tasks.items():
        tables = {split: getattr(settings, split) for split in ("train", "dev")}
        inside = {s: t for s, t in tables.items() if isinstance(t, str) and Path(t).is_relative_to(own)}
        tasks[name] = settings.model_copy(update={s: str(Path(t).relative_to(own)) for s, t in inside.items()})
    return recipe.model_copy(update={"tasks": tasks})


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [f"{key}: {before.get(key)}, here {now[key]}" for key in now if before.get(key) != now[key]]
