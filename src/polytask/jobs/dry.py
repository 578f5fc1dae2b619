"""A dry run: everything is built, each stage takes a step and each task a small evaluation; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polytask.assembly.parts import Parts, build
from polytask.data.batching import Cut, cut, padding_share
from polytask.data.rows import TaskRows
from polytask.evaluation.predicting import predict_logits
from polytask.recipe.load import load_recipe
from polytask.runtime.device import DTYPES
from polytask.training.stages import Stage, awaited_tasks, touched_tasks
from polytask.training.step import Step

_EVALUATED = 64


@dataclass(frozen=True)
class TaskOutlook:
    """What a dry run found of a task: rows, truncated rows, tokens a row, and the padding its batches would have."""

    train: int
    dev: int
    truncated: int
    tokens: float
    padding: float


@dataclass(frozen=True)
class Outlook:
    """What a dry run found: each task, each stage's steps and seconds, seconds of evaluation, trained parameters."""

    tasks: dict[str, TaskOutlook]
    steps: list[int]
    seconds: list[float]
    evaluation_seconds: float
    precision: str
    parameters: int

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds) + self.evaluation_seconds


def dry_run(
    recipe: str | Path | Mapping[str, Any],
    overrides: Iterable[str] = (),
    note: Callable[[str], None] = lambda text: None,
) -> Outlook:
    """Build a recipe, take a step of each task in each stage and a small evaluation, and say how long the run would take.

    Raises whatever the run itself would raise up to there. The estimate is by tokens, from steps after a first one.
    """
    parts = build(load_recipe(recipe, overrides), note)
    seconds = [_stage_seconds(parts, stage) for stage in parts.stages]
    evaluated = {name: _evaluation_seconds(parts, name) for name in parts.dev_rows}
    evaluation_seconds = sum(
        -(-stage.steps // stage.evaluate_every) * evaluated[name]
        for stage in parts.stages
        for name in (touched_tasks(parts.model, stage) & evaluated.keys()) - awaited_tasks(parts.stages, stage.number)
    )
    return Outlook(
        tasks={name: _task_outlook(parts, name) for name in parts.tasks},
        steps=[stage.steps for stage in parts.stages],
        seconds=seconds,
        evaluation_seconds=evaluation_seconds,
        precision=parts.recipe.precision,
        parameters=sum(parameter.numel() for parameter in parts.model.parameters()),
    )


def _stage_seconds(parts: Parts, stage: Stage) -> float:
    dtype = DTYPES[parts.recipe.precision]
    step = Step(parts.model, parts.tasks, parts.train_rows, stage, seed=parts.recipe.seed, dtype=dtype)
    chosen = [int((stage.plan.sequence_SK == number).any(1).argmax()) for number in range(len(stage.tasks))]
    step(chosen[0])  # the first step allocates, and is not the measure of the others
    started, tokens = time.perf_counter(), 0
    for number in dict.fromkeys(chosen):
        tokens += step(number).tokens
    elapsed = time.perf_counter() - started
    step.release()
    return elapsed / tokens * stage.plan.tokens()


def _evaluation_seconds(parts: Parts, name: str) -> float:
    rows = parts.dev_rows[name]
    some = np.linspace(0, len(rows) - 1, min(_EVALUATED, len(rows))).astype(np.int64)
    small = TaskRows(rows.layout, tuple(column.take(some) for column in rows.columns), [rows.ids[r] for r in some])
    started = time.perf_counter()
    predict_logits(parts.model, parts.tasks[name], small, parts.device)
    return (time.perf_counter() - started) * float(rows.lengths.sum() / small.lengths.sum())


def _task_outlook(parts: Parts, name: str) -> TaskOutlook:
    rows = parts.train_rows[name]
    stream = next((s.plan.streams[name] for s in parts.stages if name in s.plan.streams), None)
    batches = stream.batches(0) if stream else cut(np.argsort(rows.lengths), rows.lengths, Cut(32))
    dev = parts.dev_rows.get(name)
    truncated = rows.truncated + (dev.truncated if dev else 0)
    padding = padding_share(batches, rows.lengths)
    return TaskOutlook(len(rows), len(dev) if dev else 0, truncated, float(rows.lengths.mean()), padding)
