"""Checks of a recipe before a table is read: every member, option and combination, all problems at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from polytask.errors import OptionError, RecipeError, listed, shown
from polytask.heads.logits.base import heads

from .borrowed import check_rows_from
from .fits import check_head
from .members import (
    BI_FEATURES,
    check_metric,
    consistency,
    encoder_of,
    given_labels,
    is_auxiliary,
    kind_of,
    new_aggregate,
    new_aggregator,
    new_balance,
    new_kind,
    new_mixing,
    new_penalty,
    new_pooling,
    new_projection,
    one_task,
    pair_mode,
    shares_encoder,
    splits_tasks,
    stage_tasks,
)
from .reading import Problem, invalid
from .settings import Member, Recipe, StageSettings, TaskSettings

_PARAMETERS = 1_000_000_000


class Problems:
    """Collects what is wrong, by place, so that all of it is told at once. ``known`` is what reading it found."""

    def __init__(self, known: Iterable[Problem] = ()) -> None:
        self.found: list[Problem] = list(known)
        self._read = [place for place, _ in self.found]

    def add(self, place: str, sentence: str) -> None:
        """Note a problem, unless that very place could not be read, or the same was said beside it."""
        beside = place.rpartition(".")[0]
        said = any(text == sentence and other.rpartition(".")[0] == beside for other, text in self.found)
        if not said and not any(_overlap(place, other) for other in self._read):
            self.found.append((place, sentence))

    def check(self, place: str, build: Callable[[], Any]) -> None:
        """Build something only to see whether it can be."""
        try:
            build()
        except OptionError as error:
            for option, sentence in error.sentences.items():
                self.add(f"{place}.{option}", sentence)
        except RecipeError as error:
            self.add(place, str(error))

    def raise_all(self, source: str = "The recipe") -> None:
        """Raise RecipeError when something was wrong."""
        if self.found:
            raise invalid(source, [f"{place}: {sentence}" for place, sentence in self.found])


def _overlap(place: str, unread: str) -> bool:
    member = place.count(".") > 1 and unread.startswith(f"{place}.")
    return place == unread or place.startswith(f"{unread}.") or member


def check_recipe(recipe: Recipe, problems: Problems) -> None:
    """Check every member and option, before a table is read, and note what is wrong."""
    for name, task in recipe.tasks.items():
        where = f"tasks.{name}"
        problems.check(where, lambda name=name: _check_name(name))  # type: ignore[misc]
        problems.check(f"{where}.encoder", lambda name=name: encoder_of(name, recipe))  # type: ignore[misc]
        _check_columns(where, task, problems)
        problems.check(f"{where}.kind", lambda task=task: new_kind(task, given_labels(task)))  # type: ignore[misc]
        problems.check(where, lambda task=task: _check_parts(task))  # type: ignore[misc]
        problems.check(f"{where}.rows_from", lambda name=name: check_rows_from(name, recipe))  # type: ignore[misc]
        problems.check(f"{where}.kind", lambda task=task: _check_encoder_fits(recipe, task))  # type: ignore[misc]
        problems.check(f"{where}.pair", lambda task=task: pair_mode(task))  # type: ignore[misc]
        problems.check(f"{where}.pooling", lambda task=task: new_pooling(task, 2))  # type: ignore[misc]
        problems.check(f"{where}.projection", lambda task=task: _check_projection(task))  # type: ignore[misc]
        problems.check(f"{where}.symmetric", lambda task=task: consistency(task))  # type: ignore[misc]
        problems.check(f"{where}.head", lambda task=task: _head_options(task))  # type: ignore[misc]
        problems.check(f"{where}.head", lambda task=task: _check_fit(task))  # type: ignore[misc]
        _check_metrics(where, task, problems)
        problems.check(f"{where}.resample", lambda task=task: _check_resample(task))  # type: ignore[misc]
    problems.check("aggregate", lambda: new_aggregate(recipe))
    for number, stage in enumerate(recipe.stages):
        where = f"stages.{number}"
        problems.check(f"{where}.tasks", lambda stage=stage: _check_stage(recipe, stage))  # type: ignore[misc]
        problems.check(f"{where}.early_stopping", lambda stage=stage: _check_stopping(recipe, stage))  # type: ignore[misc]
        problems.check(f"{where}.mixing", lambda stage=stage: new_mixing(stage))  # type: ignore[misc]
        problems.check(f"{where}.balance", lambda stage=stage: new_balance(recipe, stage, 1))  # type: ignore[misc]
        problems.check(f"{where}.aggregator", lambda stage=stage: new_aggregator(recipe, stage))  # type: ignore[misc]
        problems.check(f"{where}.diagnose", lambda stage=stage: _check_diagnosis(recipe, stage))  # type: ignore[misc]
        for place, settings in enumerate(stage.regularizers):
            problems.check(f"{where}.regularizers.{place}", lambda s=stage, r=settings: new_penalty(recipe, s, r))  # type: ignore[misc]


def _check_diagnosis(recipe: Recipe, stage: StageSettings) -> None:
    if stage.diagnose and splits_tasks(recipe, stage):
        raise RecipeError(f"it compares the gradients of several tasks in one step, {one_task(stage)}")
    if stage.diagnose and stage.train == "heads":
        raise RecipeError('it compares the tasks\' gradients of the encoder, which train = "heads" freezes.')
    if stage.diagnose and not shares_encoder(recipe, stage):
        raise RecipeError("it compares the tasks' gradients of one encoder, and no two tasks of this stage share one.")


def _check_name(name: str) -> None:
    # A task's name is part of file names, and the name of a module in torch's ModuleDict.
    if not re.fullmatch(r"\w[\w-]*", name):
        raise RecipeError("a task's name is made of letters, digits, '_' and '-'.")
    if hasattr(nn.ModuleDict(), name):
        raise RecipeError(f"'{name}' means something to torch; give the task another name, such as '{name}_task'.")


def _check_columns(where: str, settings: TaskSettings, problems: Problems) -> None:
    if settings.train is None and settings.rows_from is None:
        problems.add(
            f"{where}.train", "is missing: the table to learn from (or 'rows_from': tasks to borrow rows from)."
        )
    borrows = settings.rows_from is not None  # its columns are its source's, where those are wrong, too
    if settings.text is None and not borrows:
        running = isinstance(settings.train, str) and settings.train.endswith(".txt")
        columns = " A .txt file has 'sentence' and, for pairs, 'next'." if running else ""
        problems.add(f"{where}.text", f"is missing: the name of the text column, or of two for a pair.{columns}")
    if isinstance(settings.text, list) and len(settings.text) not in (1, 2):
        problems.add(f"{where}.text", f"names {len(settings.text)} columns; a task has one text or two.")
    if settings.label is None and not borrows and "label" in kind_of(settings).takes:
        problems.add(f"{where}.label", "is missing: the name of the label column.")
    if isinstance(settings.dev, float) and not 0 < settings.dev < 1:
        problems.add(f"{where}.dev", f"is {settings.dev}; a share of train lies between 0 and 1.")


def _check_metrics(where: str, settings: TaskSettings, problems: Problems) -> None:
    names = [member.name for member in settings.metrics or ()]
    for place, member in enumerate(settings.metrics or ()):
        problems.check(f"{where}.metrics.{place}", lambda member=member: check_metric(settings, member))  # type: ignore[misc]
        if member.name in names[:place]:
            problems.add(f"{where}.metrics.{place}", f"names '{member.name}' twice.")
    if settings.judged_by is not None and settings.judged_by not in names:
        judge = Member(name=settings.judged_by)
        problems.check(f"{where}.judged_by", lambda: check_metric(settings, judge))


def _check_resample(settings: TaskSettings) -> None:
    if settings.resample is None or settings.kind is None:
        return
    kind = new_kind(settings, {})
    try:
        kind.groups(kind.collate([]), settings.resample.bins)
    except ValueError as error:
        raise RecipeError(f"{error}.") from error


def _check_stopping(recipe: Recipe, stage: StageSettings) -> None:
    tasks = stage_tasks(recipe, stage)
    if stage.early_stopping and all(recipe.tasks[n].dev is None or is_auxiliary(recipe.tasks[n]) for n in tasks):
        raise RecipeError(f"{listed(tasks)} {'has' if len(tasks) == 1 else 'have'} no dev table to say when to stop.")


def _check_stage(recipe: Recipe, stage: StageSettings) -> None:
    _check_in_batch(recipe, stage, stage_tasks(recipe, stage))


def _head_options(settings: TaskSettings) -> None:
    name, options = settings.head.name, settings.head.options
    # The width is the encoder's, which is not known yet, unless a projection says how wide its vectors are.
    learned = name not in heads.names() or heads.member(name).features is None
    width = settings.projection.width or 1 if settings.projection is not None and learned else 1
    failed = f"'{name}' of the heads cannot be built with {shown(options)}."
    _check_size(lambda: heads.create(name, width, 1, **options), "a head", failed)


def _check_projection(settings: TaskSettings) -> None:
    projection = settings.projection
    if projection is not None:
        failed = f"cannot be built with {shown(projection.model_dump(exclude_none=True))}."
        _check_size(lambda: new_projection(projection, 1), "a projection", failed)


def _check_size(build: Callable[[], nn.Module], what: str, failed: str) -> None:
    """Build a module where it takes no memory: sizes that no machine holds are the person's slip."""
    try:
        with torch.device("meta"):
            module = build()
    except (RuntimeError, OverflowError, TypeError) as error:  # what torch says of numbers that it cannot count to
        raise RecipeError(failed) from error
    numbers = sum(parameter.numel() for parameter in module.parameters())
    if numbers > _PARAMETERS:
        raise RecipeError(f"has {numbers:,} parameters; {what} has at most {_PARAMETERS:,}.")


def _check_fit(settings: TaskSettings) -> None:
    try:
        kind, head = new_kind(settings, {}), heads.member(settings.head.name)
        mode, options = pair_mode(settings)
    except RecipeError:
        return  # told where it belongs
    if "head" not in kind.takes:
        return
    check_head(settings.head.name, head, kind, options.get("features", BI_FEATURES) if mode == "bi" else None)


_WITHOUT = {
    "head": "takes no 'head': it has its own, or none.",
    "pooling": "takes no 'pooling': it looks at single tokens.",
    "projection": "takes no 'projection': it looks at single tokens.",
    "symmetric": "takes no 'symmetric'; a ranking task has an option of that name.",
    "resample": "reads no labels that 'resample' could even out.",
    "label": "reads no labels; leave out 'label' (to learn from the rows of one label only, "
    "take them from their task: rows_from = [{ task = …, label = … }]).",
}
"""What is said of a setting to a kind that does not take it."""


def _check_parts(settings: TaskSettings) -> None:
    """Raise RecipeError for a setting that the task's kind does not take, or an evaluation that it cannot have."""
    takes = kind_of(settings).takes
    for key, told in _WITHOUT.items():
        if key not in takes and getattr(settings, key) != TaskSettings.model_fields[key].default:
            raise RecipeError(f"'{_name(settings)}' {told}")
    if settings.evaluate and settings.dev is None:
        raise RecipeError("evaluate = true needs a dev table, or a share of train for it: 'dev'.")


def _check_encoder_fits(recipe: Recipe, settings: TaskSettings) -> None:
    """Raise RecipeError when a task needs another encoder than the recipe's."""
    architecture = recipe.encoder.architecture
    if "words" in kind_of(settings).needs and architecture != "bert":
        raise RecipeError(
            f"'{_name(settings)}' predicts words through the word table of our own BERT; "
            f'architecture = "{architecture}" has none that it knows. Use architecture = "bert".'
        )


def _check_in_batch(recipe: Recipe, stage: StageSettings, names: list[str]) -> None:
    """Raise RecipeError where a stage would split a batch whose rows need each other, or train what is not there."""
    for name in names:
        settings = recipe.tasks[name]
        kind, size = kind_of(settings), settings.batch_size or stage.batch_size
        if kind.in_batch and stage.micro_batch is not None and (stage.batch_tokens or stage.micro_batch < size):
            batch = f"batch_tokens = {stage.batch_tokens}" if stage.batch_tokens else f"its batch of {size}"
            raise RecipeError(
                f"micro_batch = {stage.micro_batch} would split {batch} of the task '{name}', and each row's loss there "
                f"is told from the batch's other rows ('{_name(settings)}'): leave out micro_batch, or give the task "
                "a smaller batch_size."
            )
        if kind.in_batch and 1 in (None if stage.batch_tokens else size, settings.sample):
            raise RecipeError(
                f"a batch of one row leaves the task '{name}' nothing to tell it from ('{_name(settings)}' compares the "
                "rows of a batch): its batch_size and its sample are at least 2."
            )
        if "pooling" in kind.takes and "head" not in kind.takes and stage.train == "heads":
            raise RecipeError(f"the task '{name}' has no head, so train = \"heads\" leaves it nothing to train.")


def _name(settings: TaskSettings) -> str:
    return settings.kind.name if settings.kind else ""
