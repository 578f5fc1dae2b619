"""Settings -> stages: plans, rules, schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from polytask.aggregators.base import aggregators
from polytask.balance.base import LossBalance, balances
from polytask.data.batching import Cut, TaskStream
from polytask.data.mixing.base import Mixing, mixings
from polytask.data.resampling import Evened, Oversampled, Undersampled
from polytask.data.rows import TaskRows
from polytask.errors import RecipeError
from polytask.recipe.facts import given_labels, kind_of, new_kind, stage_tasks
from polytask.recipe.settings import Last, Recipe, RegularizerSettings, ScheduleSettings, StageSettings, TaskSettings
from polytask.regularizers.base import Penalty, regularizers
from polytask.runtime.keys import numpy_generator
from polytask.training.optim import Adam, Rule
from polytask.training.plan import Plan
from polytask.training.stages import Average, Patience, Schedule, Stage

_MOST_STEPS = 100_000_000


def new_stage(number: int, recipe: Recipe, rows: Mapping[str, TaskRows]) -> Stage:
    """Return a stage, ready to be run."""
    settings = recipe.stages[number]
    names = stage_tasks(recipe, settings)
    mixing = _mixing(settings)
    streams = {name: _stream(name, number, recipe, rows[name]) for name in names}
    streams = _stretched(streams) if mixing.stretches else streams
    batches_T = [stream.per_pass for stream in streams.values()]
    epoch_steps = mixing.epoch_steps(batches_T)
    steps = settings.steps or max(round(min((settings.epochs or 3.0) * epoch_steps, _MOST_STEPS + 1)), 1)
    warmup = _warmup(settings.schedule, steps, epoch_steps)
    _check_length(f"stages.{number}", steps, warmup)
    sequence_SK = mixing.draw(batches_T, steps, numpy_generator(recipe.seed, "mixing", number))
    stopping = settings.early_stopping
    return Stage(
        number=number,
        plan=Plan(streams, sequence_SK, settings.micro_batch, _whole(names, recipe)),
        train=_trained(settings),
        rule=Rule(settings.learning_rate, settings.weight_decay),
        head_rules={name: _head_rule(name, recipe, settings) for name in names},
        adam=Adam(*settings.optimizer.betas, settings.optimizer.epsilon, settings.optimizer.name == "adamw"),
        schedule=Schedule(settings.schedule.name, warmup, steps),
        clip=settings.clip or None,
        balance=_balance(recipe, settings, epoch_steps),
        aggregator=aggregators.create(settings.aggregator.name, **settings.aggregator.options),
        penalties=tuple(_penalty(regularizer, names) for regularizer in settings.regularizers),
        epoch_steps=epoch_steps,
        evaluate_every=settings.evaluate_every or epoch_steps,
        patience=Patience(stopping.patience, stopping.minimum) if stopping else None,
        encoder_rules={n: _own_rule(n, recipe, settings) for n in names if recipe.tasks[n].encoder == "own"},
        diagnose=settings.diagnose,
        layer_decay=settings.layer_decay,
        average=Average(settings.average.decay) if settings.average else None,
    )


def too_short(stage: Stage, settings: StageSettings) -> list[str]:
    """Return what a stage's balance and mixing say where it is too short for them to act."""
    batches_T = [stream.per_pass for stream in stage.plan.streams.values()]
    said = (stage.balance.too_short(stage.steps), _mixing(settings).too_short(batches_T, stage.steps))
    return [text for text in said if text is not None]


def _mixing(settings: StageSettings) -> Mixing:
    return mixings.create(settings.mixing.name, **settings.mixing.options)


def _balance(recipe: Recipe, settings: StageSettings, epoch_steps: int) -> LossBalance:
    given_T = torch.tensor([recipe.tasks[name].weight for name in stage_tasks(recipe, settings)])
    return balances.create(settings.balance.name, given_T, epoch_steps, **settings.balance.options)


def _penalty(settings: RegularizerSettings, tasks: Sequence[str]) -> Penalty:
    weights = settings.weight if isinstance(settings.weight, dict) else dict.fromkeys(tasks, settings.weight)
    return Penalty(regularizers.create(settings.name, **settings.options), weights)


def _whole(names: Sequence[str], recipe: Recipe) -> frozenset[str]:
    return frozenset(name for name in names if kind_of(recipe.tasks[name]).in_batch)


def _check_length(where: str, steps: int, warmup: int) -> None:
    if steps > _MOST_STEPS:
        raise RecipeError(f"{where}: would take more than {_MOST_STEPS:,} steps.")
    if warmup > steps:
        raise RecipeError(
            f"{where}.schedule.warmup: is {warmup:,} steps; the stage has {steps:,}, so it would never end."
        )


def _stream(name: str, number: int, recipe: Recipe, rows: TaskRows) -> TaskStream:
    stage, task = recipe.stages[number], recipe.tasks[name]
    size = task.batch_size or stage.batch_size
    how = Cut(size, stage.batch_tokens, least=_least(name, task, size, rows))
    return TaskStream(rows.lengths, how, (recipe.seed, "data", number, name), task.sample, _draw(name, task, rows))


def _least(name: str, task: TaskSettings, size: int, rows: TaskRows) -> int:
    """Return the fewest rows of a batch: where rows are told from each other a short rest (of the longest) is no batch."""
    if not kind_of(task).in_batch:
        return 1
    if len(rows) == 1:
        raise RecipeError(f"tasks.{name}: has one row to train on, and each row is told from others of its batch.")
    return max(2, size // 4)


def _draw(name: str, task: TaskSettings, rows: TaskRows) -> Evened | None:
    if task.resample is None:
        return None
    if rows.labels_N is None:
        raise RecipeError(f"tasks.{name}.resample: there are no labels to even out.")
    kind = new_kind(task, given_labels(task))
    evened = Oversampled if task.resample.name == "over" else Undersampled
    return evened(kind.groups(rows.labels_N, task.resample.bins), task.sample)


def _stretched(streams: Mapping[str, TaskStream]) -> dict[str, TaskStream]:
    """Return streams whose passes have as many batches as the shortest one, larger ones where there are more rows."""
    steps = min(stream.per_pass for stream in streams.values())
    return {
        name: TaskStream(s.lengths, Cut(s.how.rows, batches=steps), s.key, s.sample, s.draw)
        for name, s in streams.items()
    }


def _trained(settings: StageSettings) -> Literal["all", "heads"] | int:
    return settings.train.last if isinstance(settings.train, Last) else settings.train


def _own_rule(name: str, recipe: Recipe, settings: StageSettings) -> Rule:
    return Rule(
        recipe.tasks[name].learning_rate or settings.learning_rate, _head_rule(name, recipe, settings).weight_decay
    )


def _head_rule(name: str, recipe: Recipe, settings: StageSettings) -> Rule:
    task = recipe.tasks[name]
    decay = settings.weight_decay if task.weight_decay is None else task.weight_decay
    return Rule(task.learning_rate or settings.head_learning_rate or settings.learning_rate, decay)


def _warmup(settings: ScheduleSettings, steps: int, epoch_steps: int) -> int:
    unit = settings.warmup_unit
    if unit == "epochs":
        return round(settings.warmup * epoch_steps)
    if unit == "share" or (unit == "auto" and settings.warmup < 1):
        return round(settings.warmup * steps)
    return round(settings.warmup)
