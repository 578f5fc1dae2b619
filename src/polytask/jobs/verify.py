"""The proof that a run survives being killed: a recipe trained briefly, once in peace and once killed over and over."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polytask.errors import PolytaskError, Remedy, RunFolderError
from polytask.recipe.load import load_recipe
from polytask.recipe.reading import Loaded
from polytask.recipe.settings import Recipe, StageSettings, TaskSettings
from polytask.recipe.toml import to_toml
from polytask.run.folder import RunFolder
from polytask.run.journal import read_journal
from polytask.runtime import files
from polytask.runtime.keys import numpy_generator

_DEV_ROWS = 200
_POLL = 0.001
_CLOCKS = ("seconds",)


@dataclass
class Report:
    """What was done to the run and what came of it: ``kills`` are seconds of training before each."""

    steps: int
    kills: list[float] = field(default_factory=list)
    in_checkpoints: int = 0
    repeated: int = 0
    resume_seconds: float = 0.0
    compared: list[str] = field(default_factory=list)


def verify_resume(
    source: str | Path | Mapping[str, Any],
    overrides: Iterable[str] = (),
    *,
    steps: int = 24,
    kills: int = 8,
    out: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Report:
    """Train ``steps`` of each stage in a process of its own, then again with SIGKILL at ``kills`` random points.

    Half of the kills come while a checkpoint is being written. Stages keep everything but their length; an evaluation
    comes twice a stage, on 200 dev rows a task at most. Raises PolytaskError that names the first difference.
    """
    loaded = load_recipe(source, overrides)
    with _folder(out) as scratch:
        recipe = scratch / "recipe.toml"
        files.write_text(recipe, to_toml(_shortened(loaded, steps)))
        note(f"Training {steps} steps of each of {len(loaded.recipe.stages)} stages in peace.")
        started = time.perf_counter()
        peace = _Life("train", str(recipe), "--out", str(scratch / "peace"), log=scratch / "log.txt")
        _await(peace, (scratch / "peace" / "journal.jsonl").exists)
        trains = time.perf_counter()
        peace.finish()
        seconds = time.perf_counter() - trains
        note(f"Took {time.perf_counter() - started:.1f} s, {seconds:.1f} s of it training. Now with {kills} kills.")
        report = Report(steps=len(_steps(read_journal(scratch / "peace" / "journal.jsonl"))))
        generator = numpy_generator(loaded.recipe.seed, "kills")
        rounds = 0
        while len(report.kills) < kills:
            rounds += 1
            run = scratch / f"killed-{rounds}"
            _torment(recipe, run, generator, 2.0 * seconds / kills, kills, report, note)
            report.compared = same_runs(scratch / "peace", run)
    return report


def same_runs(one: Path, other: Path) -> list[str]:
    """Say what two run folders were compared in. Raises PolytaskError that names the first difference; clocks don't count."""
    _same("the journal", _without_clocks(one), _without_clocks(other))
    indexes = [RunFolder(run).read_index().model_copy(update={"journal": 0}) for run in (one, other)]
    _same("index.json", *(index.model_dump() for index in indexes))
    names = [_files(run) for run in (one, other)]
    _same("the list of files", *names)
    for name in names[0]:
        if name not in ("journal.jsonl", "index.json", ".lock"):
            _same(name, *(files.digest(run / name) for run in (one, other)))
    of = {kind: sum(name.startswith(f"{kind}/") for name in names[0]) for kind in ("weights", "state", "predictions")}
    return [*(f"{count} {kind} file{'s' if count > 1 else ''}" for kind, count in of.items() if count), "the journal"]


class _Life:
    """A polytask in a process of its own."""

    def __init__(self, *arguments: str, log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "polytask", *arguments], stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def finish(self) -> None:
        if self.process.wait():
            said = self.log.read_text(encoding="utf-8", errors="replace").strip()
            raise PolytaskError(f"Training failed where nobody had killed it: {said[-2000:]}")


def _torment(
    recipe: Path,
    run: Path,
    generator: np.random.Generator,
    most: float,
    kills: int,
    report: Report,
    note: Callable[[str], None],
) -> None:
    """Train into ``run``, killed again and again until ``kills`` are reached or it got through."""
    log = run.with_suffix(".txt")
    first = True
    while True:
        known = 0 if first else RunFolder(run).read_index().journal
        stamp = 0 if first else _stamp(run)
        began = time.perf_counter()
        life = _Life("train", str(recipe), "--out", str(run), log=log) if first else _Life("resume", str(run), log=log)
        _await(life, lambda known=known, stamp=stamp: _goes_on(run, known, stamp))  # type: ignore[misc]
        if not first:
            report.resume_seconds = max(report.resume_seconds, time.perf_counter() - began)
        first = False
        if len(report.kills) >= kills or not _kill(life, run, generator.uniform(0.0, most), report):
            life.finish()
            return
        note(f"Killed after {report.kills[-1]:.2f} s of training.")
        report.repeated += _uncommitted_steps(run)


def _kill(life: _Life, run: Path, seconds: float, report: Report) -> bool:
    """Kill after some seconds, every second time in the middle of the checkpoint after that. False if it finished first."""
    began = time.perf_counter()
    _await(life, lambda: time.perf_counter() - began > seconds)
    in_checkpoint = len(report.kills) % 2 == 1
    if in_checkpoint:
        _await(life, lambda: _writes(run))
    if not life.lives:
        return False
    life.kill()
    report.in_checkpoints += in_checkpoint
    report.kills.append(time.perf_counter() - began)
    return True


def _await(life: _Life, ready: Callable[[], bool]) -> None:
    while life.lives and not ready():
        time.sleep(_POLL)


def _writes(run: Path) -> bool:
    return any(path.suffix == ".part" for kind in ("weights", "state", ".") for path in (run / kind).iterdir())


def _goes_on(run: Path, known: int, stamp: int) -> bool:
    journal = run / "journal.jsonl"
    return journal.exists() and journal.stat().st_size > known and _stamp(run) != stamp


def _stamp(run: Path) -> int:
    journal = run / "journal.jsonl"
    return journal.stat().st_mtime_ns if journal.exists() else 0


def _uncommitted_steps(run: Path) -> int:
    committed = RunFolder(run).read_index().journal
    lines = (run / "journal.jsonl").read_bytes()[committed:].split(b"\n")[:-1]
    return len(_steps([json.loads(line) for line in lines]))


def _steps(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == "step"]


def _without_clocks(run: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in event.items() if key not in _CLOCKS}
        for event in read_journal(run / "journal.jsonl")
    ]


def _files(run: Path) -> list[str]:
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())


def _same(what: str, one: Any, other: Any) -> None:
    if one == other:
        return
    where = ""
    if isinstance(one, list) and isinstance(other, list):
        place = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        where = f" (from entry {place + 1} on: {str(one[place : place + 1])[:300]} and {str(other[place : place + 1])[:300]})"
    raise PolytaskError(f"The killed run differs from the uninterrupted one in {what}{where}.")


def _shortened(loaded: Loaded, steps: int) -> Recipe:
    recipe = loaded.recipe
    encoder = recipe.encoder.model_copy(
        update={key: _absolute(getattr(recipe.encoder, key), loaded.base) for key in ("checkpoint", "tokenizer")}
    )
    return recipe.model_copy(
        update={
            "data": str((loaded.base / Path(recipe.data or ".").expanduser()).resolve()),
            "encoder": encoder,
            "tasks": {name: _with_small_dev(task) for name, task in recipe.tasks.items()},
            "stages": [_short(stage, steps) for stage in recipe.stages],
            "checkpoint_every": max(steps // 4, 1),
        }
    )


def _absolute(name: str | None, base: Path) -> str | None:
    return str((base / name).resolve()) if name is not None and (base / name).exists() else name


def _with_small_dev(task: TaskSettings) -> TaskSettings:
    return task.model_copy(update={"dev_rows": min(task.dev_rows or _DEV_ROWS, _DEV_ROWS)})


def _short(stage: StageSettings, steps: int) -> StageSettings:
    steps = min(stage.steps or steps, steps)
    return stage.model_copy(update={"steps": steps, "epochs": None, "evaluate_every": max(steps // 2, 1)})


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        files.new_folder(out)
        yield out
        return
    try:
        scratch = Path(tempfile.mkdtemp(prefix="polytask-"))
    except OSError as error:
        raise RunFolderError(f"There is no room for a temporary folder ({error}).", Remedy("out")) from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
