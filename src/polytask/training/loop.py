"""The loop around the steps: stages, evaluations, bests, checkpoints."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from polytask.data.batching import padding_share
from polytask.data.rows import TaskRows
from polytask.errors import Interrupted, Remedy, StorageError
from polytask.evaluation.aggregates.base import Aggregate
from polytask.evaluation.formats.base import Labels
from polytask.evaluation.predicting import predict, predict_logits
from polytask.evaluation.predictions import Predictions, write_predictions
from polytask.evaluation.scoring import aggregated, judged, score
from polytask.model import SHARED, Model
from polytask.run.events import (
    Evaluated,
    Evaluating,
    Event,
    MemoryShrunk,
    PassDescribed,
    StageBegins,
    StageEnded,
    Started,
    Stepped,
)
from polytask.run.folder import RunFolder
from polytask.run.index import Index
from polytask.run.journal import Journal
from polytask.run.listen import Audience, Listener
from polytask.run.scores import Scores
from polytask.run.tensors import copy_into, load_tensors, save_tensors
from polytask.runtime import files
from polytask.runtime.processes import Processes
from polytask.tasks.task import Task

from .bests import Mixture, begun, judges_of
from .stages import Stage, awaited_tasks, heirs, touched_tasks
from .step import Step
from .stopping import StopRequest, stop_requests


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
    aggregate: Aggregate
    checkpoint_every: int
    listeners: Sequence[Listener] = ()
    processes: Processes = field(default_factory=Processes)

    def run(self) -> Index:
        """Train to the end; whoever calls holds the folder's lock.

        Raises Interrupted, with a checkpoint written, when asked to stop; StorageError when the disk is full.
        """
        self.index = self.folder.read_index()
        if self.index.finished:
            return self.index
        self.judges = judges_of(self.model, self.stages, self.dev_rows)
        self.mixture: Mixture | None = None
        if self.processes.leads:
            self.folder.tidy()
        self.journal = self._open_journal()
        # The journal last: an event that a listener cannot bear is not recorded as one that happened.
        self.audience = Audience([*self.listeners, self.journal])
        try:
            with stop_requests() as self.stop:
                stop = self.stop
                self._take_up_weights()
                for stage in self.stages[self.index.stage :]:
                    self._run_stage(stage, stop)
                self._finish()
        except StorageError as error:
            raise StorageError(error.message, Remedy("room", str(self.folder.path))) from error
        finally:
            self.journal.close()
        return self.index

    def _run_stage(self, stage: Stage, stop: StopRequest) -> None:
        if not self.index.step:
            self._hand_down(stage)
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
            step.load_state_dict(self._load(self.folder.state(str(self.index.last))))
        else:
            self._note_data(stage)
        self._tell(StageBegins(stage.number, len(self.stages), self.index.step, stage.steps))
        done = self.index.step
        while done < stage.steps or self.index.owes_evaluation:
            if not self.index.owes_evaluation:
                self._take(step, stage, done)
                done += 1
            evaluates = bool(self._judged(stage)) and stage.evaluates_after(done)
            self._update(owes_evaluation=evaluates and not self._evaluate(step, done, stop))
            gives_up = evaluates and stage.patience is not None and self.index.stale >= stage.patience.evaluations
            if (done == stage.steps or gives_up) and not self.index.owes_evaluation:
                self._note_conflicts(step, stage, done)
            stops = self.processes.any(bool(stop))
            if stops or evaluates or done % self.checkpoint_every == 0 or done == stage.steps:
                self._commit(step, stage, done, gives_up)
            if stops:
                by = stop.by or "another process"
                raise Interrupted(f"Stopped by {by}.", Remedy("resume", str(self.folder.path)))
            if gives_up:
                break
        step.release()
        self._update(stage=stage.number + 1, step=0, stale=0, stage_best=None)

    def _hand_down(self, stage: Stage) -> None:
        """Let encoders of tasks' own begin as the shared one stands, where earlier stages have trained that."""
        for name in heirs(self.model, self.stages, stage.number):
            self.model.encoders[name].load_state_dict(self.model.encoders[SHARED].state_dict())
            self._tell(Started(stage.number, name, SHARED))

    def _note_data(self, stage: Stage) -> None:
        """Note what a pass over each task is made of; ``padding`` is what padded batches would waste (packed: nothing)."""
        for name, stream in stage.plan.streams.items():
            batches, rows = stream.batches(0), self.train_rows[name]
            self._tell(
                PassDescribed(
                    stage=stage.number,
                    task=name,
                    rows=len(rows),
                    rows_per_pass=sum(map(len, batches)),
                    batches_per_pass=len(batches),
                    passes=round(stage.plan.passes[name], 4),
                    truncated=rows.truncated,
                    padding=round(padding_share(batches, rows.lengths), 6),
                )
            )

    def _note_conflicts(self, step: Step, stage: Stage, done: int) -> None:
        """Note at a stage's end, which need not be evaluated, in how many of its steps tasks were in conflict."""
        if step.conflicts.share is not None:
            self._tell(StageEnded(stage.number, done, step.conflicts.share))

    def _take(self, step: Step, stage: Stage, number: int) -> None:
        started = time.perf_counter()
        result = step(number)
        if result.shrunk_to is not None:
            self._tell(MemoryShrunk(stage.number, number + 1, result.shrunk_to))
        epoch = round((number + 1) / stage.epoch_steps, 4)
        self._tell(Stepped(stage.number, number + 1, epoch, result, round(time.perf_counter() - started, 4)))

    def _tell(self, event: Event) -> None:
        """Have everybody hear an event, and take note of who asks for a stop."""
        by = self.audience.hear(event)
        if by is not None:
            self.stop.by = self.stop.by or by

    def _evaluate(self, step: Step, done: int, stop: StopRequest) -> bool:
        """Score the dev tables and take note of bests. Returns False if a request to stop came first: it is still owed.

        Tasks of which the stage moves no weight have the scores that they had, and those whose turn is yet to come none.
        """
        started, stage = time.perf_counter(), step.stage
        touched, known = touched_tasks(self.model, stage), self.index.scores
        judged = self._judged(stage)
        due = [name for name in judged if name in touched or name not in known]
        try:
            predictions = {name: self._predict(step.judged, name, stop) for name in due}
        except _Stopped:
            return False
        new = {name: score(predictions[name], self.tasks[name].metrics) for name in due}
        scores = {name: new.get(name) or known[name] for name in judged}
        self._update(scores=scores)
        total = self._aggregate(scores, scores)
        self._note_patience(stage, scores)
        self._note_task_bests(scores, checkpoint_name(stage.number, done))
        best, kept = self._note_best(scores, touched, checkpoint_name(stage.number, done))
        if self.processes.leads:
            for name in due:
                if self.model.encoder_of[name] not in kept:
                    self._write_predictions(name, predictions[name])
        epoch = round(done / stage.epoch_steps, 4)
        seconds = round(time.perf_counter() - started, 4)
        self._tell(
            Evaluated(stage.number, done, epoch, scores, total, best, seconds=seconds, conflict=step.conflicts.share)
        )
        return True

    def _judged(self, stage: Stage) -> list[str]:
        awaited = awaited_tasks(self.stages, stage.number)
        return [name for name in self.dev_rows if name not in awaited]

    def _predict(self, model: Model, name: str, stop: StopRequest) -> Predictions:
        rows, done = self.dev_rows[name], 0

        def ticked(count: int) -> None:
            nonlocal done
            done += count
            self._tell(Evaluating(name, len(rows), done))
            if stop and self.processes.size == 1:
                raise _Stopped

        task = self.tasks[name]
        logits_NC = predict_logits(model, task, rows, self.device, ticked, self.processes)
        return predict(task.kind, logits_NC, rows.ids, rows.labels_N)

    def _write_predictions(self, name: str, predictions: Predictions) -> None:
        write_predictions(self.folder.predictions / f"{name}-dev.csv", predictions, Labels())

    def _aggregate(self, scores: Mapping[str, Scores], tasks: Iterable[str]) -> float:
        metrics = {name: task.metrics for name, task in self.tasks.items()}
        return aggregated({task: scores[task] for task in tasks}, metrics, self.aggregate)

    def _note_patience(self, stage: Stage, scores: Mapping[str, Scores]) -> None:
        """Count the evaluations without a new best of the stage, by its own tasks: the others' do not speak for it."""
        own = [name for name in scores if name in stage.tasks]
        if not own:
            return
        value, before = self._aggregate(scores, own), self.index.stage_best
        minimum = stage.patience.minimum if stage.patience else 0.0
        stale = 0 if before is None or value > before + minimum else self.index.stale + 1
        self._update(stale=stale, stage_best=value if before is None else max(value, before))

    def _note_task_bests(self, scores: Mapping[str, Scores], name: str) -> None:
        known, better = self.index.best_values, {}
        for task, found in scores.items():
            new = judged(found, self.tasks[task].metrics)
            if task not in known or new.metric.gain(new.value, known[task]) > 0:
                better[task] = new.value
        self._update(
            best_of=self.index.best_of | dict.fromkeys(better, name),
            best_values=self.index.best_values | better,
        )

    def _note_best(
        self, scores: Mapping[str, Scores], touched: AbstractSet[str], name: str
    ) -> tuple[bool, frozenset[str]]:
        """Say whether an encoder is better than ever, and return those of which a former best is kept.

        An encoder is judged once the turn of all its tasks has come: until then heads are as they were drawn.
        """
        held, had = self.index.best_scores, begun(self.judges, self.index.best_scores)
        risen = {
            encoder: judges
            for encoder, judges in self.judges.items()
            if not touched.isdisjoint(judges)
            and scores.keys() >= set(judges)
            and (encoder not in had or self._aggregate(scores, judges) > self._aggregate(held, judges))
        }
        kept = frozenset(had - risen.keys())
        if risen:
            if kept:
                self.mixture = Mixture(str(self.index.best), kept)
            held = held | {task: scores[task] for judges in risen.values() for task in judges}
            total = self._aggregate(held, held)
            self._update(best=f"{name}-best" if kept else name, best_scores=held, best_aggregate=total)
        return bool(risen), kept

    def _commit(self, step: Step, stage: Stage, done: int, ended: bool) -> None:
        name = checkpoint_name(stage.number, done)
        done = stage.steps if ended else done
        self._update(last=name, stage=stage.number, step=done, journal=self.journal.length)
        if self.processes.leads:
            self._save(step.weights(), self.folder.weights(name))
            self._mix(step.weights())
            self._save(step.state_dict(), self.folder.state(name))
            self.journal.sync()
            self.folder.write_index(self.index)
        self.processes.wait()

    def _mix(self, now: Mapping[str, Tensor]) -> None:
        if self.mixture is not None:
            former = self._load(self.folder.weights(self.mixture.former))
            self._save(self.mixture.of(self.model, now, former), self.folder.weights(str(self.index.best)))
            self.mixture = None

    def _finish(self) -> None:
        kept = begun(self.judges, self.index.best_scores)
        if kept and kept < set(self.model.encoders):  # the others were never judged: they are best as they are last
            self.mixture = Mixture(str(self.index.best), kept)
            self._update(best=f"{self.index.last}-end")
        self._update(best=self.index.best or self.index.last, finished=True)
        if self.processes.leads:
            self._mix(dict(self.model.named_parameters()))
            best = self.folder.checked(self.folder.weights(str(self.index.best)), self.index)
            files.write_with(self.folder.model, lambda aside: files.link_or_copy(best, aside))
            self.folder.write_index(self.index)
        self.processes.wait()

    def _take_up_weights(self) -> None:
        path = self.folder.weights(str(self.index.last))
        copy_into(self.model, self._load(path), path)

    def _load(self, path: Path) -> dict[str, Tensor]:
        return load_tensors(self.folder.checked(path, self.index))

    def _save(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        save_tensors(tensors, path)
        self._update(hashes=self.index.hashes | {self.folder.name_of(path): files.digest(path)})

    def _update(self, **changes: object) -> None:
        self.index = self.index.model_copy(update=changes)

    def _open_journal(self) -> Journal:
        if not self.processes.leads:
            return Journal(Path(os.devnull))
        return Journal(self.folder.journal_path, self.index.journal)


class _Stopped(Exception):
    """An evaluation was asked to stop."""


def checkpoint_name(stage: int, done: int) -> str:
    """Return the name of the checkpoint after ``done`` steps of a stage."""
    return f"{stage + 1}-{done:06d}"
