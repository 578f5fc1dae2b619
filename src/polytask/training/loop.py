"""The loop around the steps: stages, evaluations, bests, checkpoints."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from polytask.data.rows import TaskRows
from polytask.errors import Interrupted
from polytask.evaluation.predictions import write_predictions
from polytask.evaluation.scoring import Scores, aggregate, first_metrics, predict_logits, score
from polytask.model import Model
from polytask.runtime.files import write_with
from polytask.runtime.folder import Index, Journal, RunFolder
from polytask.runtime.processes import Processes
from polytask.tasks.task import Task

from .checkpoint import copy_into, load_tensors, save_tensors
from .stages import Stage
from .step import Step
from .watch import StopRequest, Watcher, stop_requests


@dataclass
class Trainer:
    """Runs the stages into a run folder, from wherever its index says that they stand."""

    model: Model
    tasks: Mapping[str, Task]
    train_rows: Mapping[str, TaskRows]
    dev_rows: Mapping[str, TaskRows]
    stages: Sequence[Stage]
    folder: RunFolder
    seed: int
    device: torch.device
    dtype: torch.dtype
    aggregate: Literal["mean", "cs224n"]
    checkpoint_every: int
    watcher: Watcher = field(default_factory=Watcher)
    processes: Processes = field(default_factory=Processes)

    def run(self) -> Index:
        """Train to the end. Raises Interrupted, with a checkpoint written, when asked to stop."""
        with self._holding(), stop_requests() as stop:
            self.index = self.folder.read_index()
            if self.index.finished:
                return self.index
            self.journal = self._open_journal()
            try:
                self._take_up_weights()
                for stage in self.stages[self.index.stage :]:
                    self._run_stage(stage, stop)
                self._finish()
            finally:
                self.journal.close()
        return self.index

    def _run_stage(self, stage: Stage, stop: StopRequest) -> None:
        step = Step(
            self.model,
            self.tasks,
            self.train_rows,
            stage,
            seed=self.seed,
            dtype=self.dtype,
            processes=self.processes,
        )
        if self.index.step:
            step.load_state_dict(load_tensors(self.folder.state(str(self.index.last))))
        self.watcher.stage(stage.number, len(self.stages), self.index.step, stage.steps)
        for number in range(self.index.step, stage.steps):
            done = number + 1
            self._take(step, stage, number)
            evaluates = done % stage.evaluate_every == 0 or done == stage.steps
            gives_up = evaluates and self._evaluate(stage, done)
            stops = self.processes.any(bool(stop))
            if evaluates or stops or done % self.checkpoint_every == 0:
                self._commit(step, stage, stage.steps if gives_up else done)
            if stops:
                raise Interrupted(f"Stopped by {stop.signal}. Go on with: polytask resume {self.folder.path}")
            if gives_up:
                break
        step.release()
        self._update(stage=stage.number + 1, step=0, stale=0)

    def _take(self, step: Step, stage: Stage, number: int) -> None:
        started = time.perf_counter()
        result = step(number)
        self.watcher.step(number + 1, result)
        self.journal.write(
            "step",
            stage=stage.number,
            step=number + 1,
            epoch=round((number + 1) / stage.epoch_steps, 4),
            losses=result.losses,
            **({"penalties": result.penalties} if result.penalties else {}),
            norm=result.norm,
            learning_rate=result.learning_rate,
            rows=result.rows,
            tokens=result.tokens,
            seconds=round(time.perf_counter() - started, 4),
        )

    def _evaluate(self, stage: Stage, done: int) -> bool:
        """Score the dev tables, take note of bests, and say whether the stage's patience is at its end."""
        if not self.dev_rows:
            return False
        started = time.perf_counter()
        logits = {name: self._predict(name) for name in self.dev_rows}
        scores = {name: score(self.tasks[name], logits[name], rows) for name, rows in self.dev_rows.items()}
        total = aggregate(scores, {name: task.kind for name, task in self.tasks.items()}, self.aggregate)
        minimum = stage.patience.minimum if stage.patience else 0.0
        best = self.index.best_aggregate is None or total > self.index.best_aggregate + minimum
        self._note_bests(scores, total, best, checkpoint_name(stage.number, done))
        if best and self.processes.leads:
            for name, rows in self.dev_rows.items():
                path = self.folder.predictions / f"{name}-dev.csv"
                write_predictions(path, self.tasks[name], rows.ids, self.tasks[name].kind.decode(logits[name]), "csv")
        epoch = round(done / stage.epoch_steps, 4)
        self.watcher.evaluated(epoch, scores, total, best)
        self.journal.write(
            "evaluation",
            stage=stage.number,
            step=done,
            epoch=epoch,
            scores=scores,
            aggregate=total,
            best=best,
            seconds=round(time.perf_counter() - started, 4),
        )
        return stage.patience is not None and self.index.stale >= stage.patience.evaluations

    def _predict(self, name: str) -> Tensor:
        rows, done = self.dev_rows[name], 0

        def ticked(count: int) -> None:
            nonlocal done
            done += count
            self.watcher.evaluating(name, len(rows), done)

        return predict_logits(self.model, name, rows, self.device, ticked)

    def _note_bests(self, scores: Mapping[str, Scores], total: float, best: bool, name: str) -> None:
        firsts = first_metrics(scores, {task: self.tasks[task].kind for task in scores})
        better = {
            task: value
            for task, value in firsts.items()
            if task not in self.index.best_values or value > self.index.best_values[task]
        }
        self._update(
            best_of=self.index.best_of | dict.fromkeys(better, name),
            best_values=self.index.best_values | better,
            stale=0 if best else self.index.stale + 1,
        )
        if best:
            self._update(best=name, best_aggregate=total)

    def _commit(self, step: Step, stage: Stage, done: int) -> None:
        name = checkpoint_name(stage.number, done)
        self._update(last=name, stage=stage.number, step=done, journal=self.journal.length)
        if self.processes.leads:
            save_tensors(step.weights(), self.folder.weights(name))
            save_tensors(step.state_dict(), self.folder.state(name))
            self.journal.sync()
            self.folder.write_index(self.index)
        self.processes.wait()

    def _finish(self) -> None:
        self._update(best=self.index.best or self.index.last, finished=True)
        if self.processes.leads:
            best = self.folder.weights(str(self.index.best))
            write_with(self.folder.model, lambda aside: link_or_copy(best, aside))
            self.folder.write_index(self.index)
        self.processes.wait()

    def _take_up_weights(self) -> None:
        if self.index.last is not None:
            path = self.folder.weights(self.index.last)
            copy_into(self.model, load_tensors(path), path)

    def _update(self, **changes: object) -> None:
        self.index = self.index.model_copy(update=changes)

    def _holding(self) -> AbstractContextManager[None]:
        return self.folder.locked() if self.processes.leads else nullcontext()

    def _open_journal(self) -> Journal:
        path = self.folder.journal_path if self.processes.leads else Path(os.devnull)
        return Journal(path, self.index.journal)


def checkpoint_name(stage: int, done: int) -> str:
    """Return the name of the checkpoint after ``done`` steps of a stage."""
    return f"{stage + 1}-{done:06d}"


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the disk knows no links. Weights are never changed in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
