"""What a stage may say, beside its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from polytask.balance.base import balances
from polytask.data.mixing.base import mixings
from polytask.errors import listed, nearest
from polytask.recipe.facts import is_auxiliary, kind_of, shares_encoder, stage_tasks
from polytask.recipe.reading import Problem
from polytask.recipe.settings import Recipe, RegularizerSettings, StageSettings

from .members import Made
from .task import doubled


def stage_rules(recipe: Recipe, made: Made) -> Iterator[Problem]:
    """Yield what is wrong with a recipe's stages."""
    for number, stage in enumerate(recipe.stages):
        where = f"stages.{number}"
        yield from ((f"{where}.tasks", sentence) for sentence in _tasks(recipe, stage))
        yield from _length(where, recipe, stage)
        yield from _warmup(f"{where}.schedule.warmup", stage)
        yield from _steps_of_one_task(where, recipe, stage, made)
        yield from _regularizers(where, recipe, stage)


def _tasks(recipe: Recipe, stage: StageSettings) -> Iterator[str]:
    unknown = [name for name in stage.tasks or () if name not in recipe.tasks]
    if unknown:
        near = nearest(unknown[0], recipe.tasks)
        yield f"there is no task {listed(unknown)}.{near} There are {listed(recipe.tasks)}."
    if stage.tasks == []:
        yield "a stage needs at least one task."
    if twice := doubled(stage.tasks or []):
        yield f"names {listed(twice)} twice."
    for name in stage_tasks(recipe, stage):
        yield from _batches(name, recipe, stage)


def _batches(name: str, recipe: Recipe, stage: StageSettings) -> Iterator[str]:
    """Yield where a stage would split a batch whose rows need each other, or train what is not there."""
    task, kind = recipe.tasks[name], kind_of(recipe.tasks[name])
    size, called = task.batch_size or stage.batch_size, task.kind.name if task.kind else ""
    # With negatives from the batch, a batch in parts is another loss, not the same loss in less memory.
    if kind.in_batch and stage.micro_batch is not None and (stage.batch_tokens or stage.micro_batch < size):
        batch = f"batch_tokens = {stage.batch_tokens}" if stage.batch_tokens else f"its batch of {size}"
        yield (
            f"micro_batch = {stage.micro_batch} would split {batch} of the task '{name}', and each row's loss there "
            f"is told from the batch's other rows ('{called}'): leave out micro_batch, or give the task "
            "a smaller batch_size."
        )
    if kind.in_batch and 1 in (None if stage.batch_tokens else size, task.sample):
        yield (
            f"a batch of one row leaves the task '{name}' nothing to tell it from ('{called}' compares the "
            "rows of a batch): its batch_size and its sample are at least 2."
        )
    if "pooling" in kind.takes and "head" not in kind.takes and stage.train == "heads":
        yield f"the task '{name}' has no head, so train = \"heads\" leaves it nothing to train."


def _length(where: str, recipe: Recipe, stage: StageSettings) -> Iterator[Problem]:
    tasks = [recipe.tasks[name] for name in stage_tasks(recipe, stage)]
    if stage.epochs is not None and stage.steps is not None:
        yield where, "a stage takes 'epochs' or 'steps', not both."
    if recipe.tasks and all(task.dev is None for task in recipe.tasks.values()) and stage.evaluate_every is not None:
        yield f"{where}.evaluate_every", "does nothing: no task has a 'dev' to evaluate on."
    if stage.train == "heads" and stage.layer_decay != 1.0:
        yield f"{where}.layer_decay", 'does nothing: train = "heads" freezes every layer of the encoder.'
    if stage.early_stopping and tasks and all(task.dev is None or is_auxiliary(task) for task in tasks):
        names = listed(stage_tasks(recipe, stage))
        yield (
            f"{where}.early_stopping",
            f"{names} {'has' if len(tasks) == 1 else 'have'} no dev table to say when to stop.",
        )


def _warmup(place: str, stage: StageSettings) -> Iterator[Problem]:
    warmup, unit = stage.schedule.warmup, stage.schedule.warmup_unit
    # "auto" reads what the reports and transformers write: below 1 a share of the steps, from 1 on a number of them.
    steps = unit == "steps" or (unit == "auto" and warmup >= 1)
    if unit == "share" and warmup > 1:
        yield place, f"is {warmup:g}; a share of the stage is at most 1."
    elif steps and 0 < warmup < 1:
        yield place, f'is {warmup:g} steps; wanted a whole number, or warmup_unit = "share".'
    elif steps and stage.steps is not None and warmup > stage.steps:
        yield place, f"is {warmup:g} steps; the stage has {stage.steps}, so it would never end."
    elif unit == "epochs" and stage.steps is None and warmup > (stage.epochs or 3.0):
        yield place, f"is {warmup:g} epochs; the stage has {stage.epochs or 3.0:g}, so it would never end."


def _steps_of_one_task(where: str, recipe: Recipe, stage: StageSettings, made: Made) -> Iterator[Problem]:
    """Yield what compares the tasks of a step, where steps hold one task only or there is nothing to compare."""
    mixing, balance, aggregator = stage.mixing.name, stage.balance.name, made.get(f"{where}.aggregator")
    if mixing not in mixings.names():
        return  # told where it belongs
    one = f"and the mixing '{mixing}' puts one task in a step. Use mixing = \"joint\"."
    splits = len(stage_tasks(recipe, stage)) > 1 and not mixings.member(mixing).joins_tasks
    # Batches that stretch say how many rows each task has in a step; a budget of tokens says so, too.
    if getattr(made.get(f"{where}.mixing"), "stretches", False) and stage.batch_tokens is not None:
        sentence = f"'{mixing}' stretches batches by rows; 'batch_tokens' would cut them by tokens."
        yield f"{where}.mixing", sentence
    if balance in balances.names() and balances.member(balance).uses_losses and splits:
        yield f"{where}.balance", f"'{balance}' weighs the losses of one step against each other, {one}"
    # Constant weights are a weighted sum of losses: one backward pass, to which steps of one task do no harm.
    surgery = aggregator is not None and aggregator.constant(2) is None
    if surgery and splits:
        sentence = f"'{stage.aggregator.name}' combines the gradients of several tasks in one step, {one}"
        yield f"{where}.aggregator", sentence
    elif surgery and stage.train == "heads":
        sentence = f"'{stage.aggregator.name}' combines gradients of the encoder, which train = \"heads\" freezes."
        yield f"{where}.aggregator", sentence
    elif surgery and not shares_encoder(recipe, stage):
        what = f"'{stage.aggregator.name}' combines the tasks' gradients of one encoder"
        yield f"{where}.aggregator", f"{what}, and no two tasks of this stage share one."
    if stage.diagnose and splits:
        yield f"{where}.diagnose", f"it compares the gradients of several tasks in one step, {one}"
    elif stage.diagnose and stage.train == "heads":
        sentence = 'it compares the tasks\' gradients of the encoder, which train = "heads" freezes.'
        yield f"{where}.diagnose", sentence
    elif stage.diagnose and not shares_encoder(recipe, stage):
        sentence = "it compares the tasks' gradients of one encoder, and no two tasks of this stage share one."
        yield f"{where}.diagnose", sentence


def _regularizers(where: str, recipe: Recipe, stage: StageSettings) -> Iterator[Problem]:
    tasks = stage_tasks(recipe, stage)
    for number, settings in enumerate(stage.regularizers):
        place = f"{where}.regularizers.{number}"
        unknown = [name for name in _acts_on(settings, tasks) if name not in tasks]
        if unknown:
            sentence = f"'{settings.name}' has a weight for '{unknown[0]}', which is no task of this stage."
            yield place, f"{sentence}{nearest(unknown[0], tasks)}"
        if settings.weight == {}:
            yield f"{place}.weight", "is empty, so it acts on no task."
    for (first, one), (number, other) in combinations(enumerate(stage.regularizers), 2):
        both = sorted({*_acts_on(one, tasks)} & {*_acts_on(other, tasks)})
        if (one.name, one.options) == (other.name, other.options) and both:
            sentence = f"'{other.name}' acts on {listed(both)} already, as regularizer {first} of this stage."
            yield f"{where}.regularizers.{number}", sentence


def _acts_on(settings: RegularizerSettings, tasks: list[str]) -> list[str]:
    return list(settings.weight) if isinstance(settings.weight, dict) else tasks
