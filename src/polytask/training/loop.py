"""The loop around the steps: stages, evaluations, bests, checkpoints."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from polytask.data.batching import padding_share
from polytask.data.rows import TaskRows
from polytask.errors import Interrupted, Remedy, StorageError
from polytask.evaluation.aggregates.base import Aggregate
from polytask.evaluation.formats.base import Labels
from polytask.evaluation.predicting import predict, predict_logits
from polytask.evaluation.predictions import Predictions, write_predictions
from polytask.evaluation.scoring import score
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
from polytask.run.index import Index, Waited
from polytask.run.journal import Journal
from polytask.run.listen import Audience, Listener
from polytask.runtime.processes import Processes
from polytask.tasks.task import Task

from .bests import Bests
from .saving import Checkpoints, checkpoint_name
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

    def __post_init__(self) -> None:
        metrics = {name: task.metrics for name, task in self.tasks.items()}
        self.bests = Bests(self.model, self.stages, self.dev_rows, metrics, self.aggregate)
        self.saved = Checkpoints(self.folder, self.model, self.processes)
        self.stop = StopRequest()
        self.audience = Audience(self.listeners)

    def run(self) -> Index:
        """Train to the end; whoever calls holds the folder's lock.

        Raises Interrupted, with a checkpoint written, when asked to stop; StorageError when the disk is full.
        """
        if self.saved.index.finished:
            return self.saved.index
        if self.processes.leads:
            self.folder.tidy()
        with self._journal() as journal, self._room_as_remedy(), stop_requests(self.stop):
            # The journal last: an event that a listener cannot bear is not recorded as one that happened.
            self.audience = Audience([*self.listeners, journal])
            self.saved.take_up_weights()
            for stage in self.stages[self.saved.index.stage :]:
                self._run_stage(stage, journal)
            self.saved.finish(self.bests.at_the_end(self.saved.index, self.model.encoders.keys()))
        return self.saved.index

    def _run_stage(self, stage: Stage, journal: Journal) -> None:
        done = self.saved.index.step
        step = self._begin(stage, done)
        while done < stage.steps or self.saved.index.owes_evaluation:
            if not self.saved.index.owes_evaluation:
                self._take(step, stage, done)
                done += 1
            evaluates = bool(self._scored(stage)) and stage.evaluates_after(done)
            # A stop asked for within an evaluation cuts it short: a resumed run owes it, and begins with it.
            self.saved.update(owes_evaluation=evaluates and not self._evaluate(step, done))
            waited = self.saved.index.waited.evaluations
            gives_up = evaluates and stage.patience is not None and waited >= stage.patience.evaluations
            ends = done == stage.steps or gives_up
            if ends and not self.saved.index.owes_evaluation:
                self._note_conflicts(step, stage, done)
            # Asked of all processes together: one that went on alone would wait for the others for ever.
            stops = self.processes.any(bool(self.stop))
            if stops or evaluates or done % self.checkpoint_every == 0 or ends:
                # A stage that gave up has done all its steps, as far as a resumed run is concerned.
                counted = stage.steps if gives_up else done
                self.saved.commit(checkpoint_name(stage.number, done), step, journal, stage=stage.number, done=counted)
            if stops:
                by = self.stop.by or "another process"
                raise Interrupted(f"Stopped by {by}.", Remedy("resume", str(self.folder.path)))
            if gives_up:
                break
        step.release()
        self.saved.update(stage=stage.number + 1, step=0, waited=Waited())

    def _begin(self, stage: Stage, done: int) -> Step:
        """Return what takes a stage's steps, as it stood after ``done`` of them."""
        if not done:
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
        if done:
            step.load_state_dict(self.saved.state())
        else:
            self._note_data(stage)
        self._tell(StageBegins(stage.number, len(self.stages), done, stage.steps))
        return step

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

    def _evaluate(self, step: Step, done: int) -> bool:
        """Score the dev tables and take note of bests. Returns False if a request to stop came first: it is still owed.

        Tasks of which the stage moves no weight have the scores that they had, and those whose turn is yet to come none.
        """
        started, stage = time.perf_counter(), step.stage
        touched, known = touched_tasks(self.model, stage), self.saved.index.scores
        scored = self._scored(stage)
        due = [name for name in scored if name in touched or name not in known]
        try:
            predictions = {name: self._predict(step.weights.evaluated, name) for name in due}
        except _Stopped:
            return False
        new = {name: score(predictions[name], self.tasks[name].metrics) for name in due}
        scores = {name: new.get(name) or known[name] for name in scored}
        checkpoint = checkpoint_name(stage.number, done)
        verdict = self.bests.judge(self.saved.index, stage, scores, touched, checkpoint)
        self.saved.note(verdict)
        if self.processes.leads:
            for name in due:
                # Predictions on disk are those of the joint best: where a former one stays, so do they.
                if self.model.encoder_of[name] not in verdict.kept:
                    write_predictions(self.folder.predictions / f"{name}-dev.csv", predictions[name], Labels())
        epoch, total = round(done / stage.epoch_steps, 4), self.bests.aggregate(scores, scores)
        seconds, conflict = round(time.perf_counter() - started, 4), step.conflicts.share
        self._tell(
            Evaluated(stage.number, done, epoch, scores, total, verdict.best, seconds=seconds, conflict=conflict)
        )
        return True

    def _scored(self, stage: Stage) -> list[str]:
        """Return the tasks that a stage's evaluations score."""
        awaited = awaited_tasks(self.stages, stage.number)
        return [name for name in self.dev_rows if name not in awaited]

    def _predict(self, model: Model, name: str) -> Predictions:
        rows, done = self.dev_rows[name], 0

        def ticked(count: int) -> None:
            nonlocal done
            done += count
            self._tell(Evaluating(name, len(rows), done))
            # Of several processes none may leave the others alone in an evaluation.
            if self.stop and self.processes.size == 1:
                raise _Stopped

        task = self.tasks[name]
        logits_NC = predict_logits(model, task, rows, self.device, ticked, self.processes)
        return predict(task.kind, logits_NC, rows.ids, rows.labels_N)

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        leads = self.processes.leads
        journal = Journal(*((self.folder.journal_path, self.saved.index.journal) if leads else (Path(os.devnull),)))
        try:
            yield journal
        finally:
            journal.close()

    @contextmanager
    def _room_as_remedy(self) -> Iterator[None]:
        """Let a full disk's error say that the run goes on once there is room."""
        try:
            yield
        except StorageError as error:
            raise StorageError(error.message, Remedy("room", str(self.folder.path))) from error


class _Stopped(Exception):
    """An evaluation was asked to stop."""
