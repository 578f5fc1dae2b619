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

from polytask.data.batching import padding_share
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
        else:
            self._note_data(stage)
        self.watcher.stage(stage.number, len(self.stages), self.index.step, stage.steps)
        done = self.index.step
        while done < stage.steps or self.index.owes_evaluation:
            if not self.index.owes_evaluation:
                self._take(step, stage, done)
                done += 1
            evaluates = bool(self.dev_rows) and stage.evaluates_after(done)
            self._update(owes_evaluation=evaluates and not self._evaluate(step.judged, stage, done, stop))
            gives_up = evaluates and stage.patience is not None and self.index.stale >= stage.patience.evaluations
            stops = self.processes.any(bool(stop))
            if stops or evaluates or done % self.checkpoint_every == 0 or done == stage.steps:
                self._commit(step, stage, done, gives_up)
            if stops:
                by = stop.signal or "another process"
                raise Interrupted(f"Stopped by {by}. Go on with: polytask resume {self.folder.path}")
            if gives_up:
                break
        step.release()
        self._update(stage=stage.number + 1, step=0, stale=0)

    def _note_data(self, stage: Stage) -> None:
        """Note what a pass over each task is made of; ``padding`` is what padded batches would waste (packed: nothing)."""
        for name, stream in stage.plan.streams.items():
            batches, rows = stream.batches(0), self.train_rows[name]
            self.journal.write(
                "data",
                stage=stage.number,
                task=name,
                rows=len(rows),
                rows_per_pass=sum(map(len, batches)),
                batches_per_pass=len(batches),
                truncated=rows.truncated,
                padding=round(padding_share(batches, rows.lengths), 6),
            )

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

    def _evaluate(self, model: Model, stage: Stage, done: int, stop: StopRequest) -> bool:
        """Score the dev tables and take note of bests. Returns False if a request to stop came first: it is still owed."""
        started = time.perf_counter()
        try:
            logits = {name: self._predict(model, name, stop) for name in self.dev_rows}
        except _Stopped:
            return False
        scores = {name: score(self.tasks[name], logits[name], rows) for name, rows in self.dev_rows.items()}
        total = aggregate(scores, {name: task.kind for name, task in self.tasks.items()}, self.aggregate)
        before = self.index.best_aggregate
        best = before is None or total > before
        minimum = stage.patience.minimum if stage.patience else 0.0
        self._update(stale=0 if before is None or total > before + minimum else self.index.stale + 1)
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
        return True

    def _predict(self, model: Model, name: str, stop: StopRequest) -> Tensor:
        rows, done = self.dev_rows[name], 0

        def ticked(count: int) -> None:
            nonlocal done
            done += count
            self.watcher.evaluating(name, len(rows), done)
            if stop and self.processes.size == 1:
                raise _Stopped

        return predict_logits(model, name, rows, self.device, ticked)

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
        )
        if best:
            self._update(best=name, best_aggregate=total)

    def _commit(self, step: Step, stage: Stage, done: int, ended: bool) -> None:
        name = checkpoint_name(stage.number, done)
        done = stage.steps if ended else done
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
        if not self.processes.leads:
            return Journal(Path(os.devnull))
        return Journal(self.folder.journal_path, self.index.journal)


class _Stopped(Exception):
    """An evaluation was asked to stop."""


def checkpoint_name(stage: int, done: int) -> str:
    """Return the name of the checkpoint after ``done`` steps of a stage."""
    return f"{stage + 1}-{done:06d}"


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the disk knows no links. Weights are never changed in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
