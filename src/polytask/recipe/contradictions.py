"""Choices of a recipe that contradict each other, or that would do nothing: told before anything is read or drawn."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from polytask.encoder.base import Outline
from polytask.errors import RecipeError, listed, shown
from polytask.heads.pooling.base import poolings

from .checks import Problems, check_recipe
from .extra import check_augment, check_phrases
from .members import kind_of, new_aggregator, shares_encoder
from .reading import Problem
from .settings import EncoderSettings, Last, Recipe, RegularizerSettings, StageSettings, TaskSettings

_NEW_ONLY = ("layers", "width", "heads", "hidden", "tokenizer", "vocabulary")

_LARGEST = {"layers": 1000, "width": 100_000, "heads": 10_000, "hidden": 1_000_000, "vocabulary": 100_000_000}

_PARAMETERS = 10_000_000_000

_LONGEST_NAME = 100


def examine(recipe: Recipe, known: Iterable[Problem] = ()) -> Problems:
    """Return everything that is wrong with a recipe and can be told without reading anything, after what is known."""
    problems = Problems(known)
    _check_encoder(recipe.encoder, problems)
    _check_names(recipe, problems)
    _check_path("data", recipe.data, problems)
    check_recipe(recipe, problems)
    for name, task in recipe.tasks.items():
        _check_task(f"tasks.{name}", task, problems)
        for key in ("train", "dev"):
            _check_path(f"tasks.{name}.{key}", getattr(task, key), problems)
        problems.check(f"tasks.{name}.augment", lambda task=task: check_augment(task))  # type: ignore[misc]
        problems.check(f"tasks.{name}.phrases", lambda task=task: check_phrases(task))  # type: ignore[misc]
    for number, stage in enumerate(recipe.stages):
        _check_stage(f"stages.{number}", stage, recipe, problems)
    if recipe.encoder.checkpoint is None:
        check_fit(recipe, new_outline(recipe.encoder), problems)
    return problems


def check_fit(recipe: Recipe, outline: Outline, problems: Problems) -> None:
    """Note what a recipe asks of its encoder that the encoder has not."""
    for name, task in recipe.tasks.items():
        if task.max_length is not None and task.max_length > outline.positions:
            wrong = f"is {task.max_length}; the encoder takes {outline.positions} tokens."
            problems.add(f"tasks.{name}.max_length", wrong)
        if (
            outline.has_pooler is False
            and "pooling" in kind_of(task).takes
            and poolings.create(task.pooling.name, 2, **task.pooling.options).uses_pooler
        ):
            told = f"'{task.pooling.name}' reads the pooler, which this checkpoint has not; use 'mean' or 'max'."
            problems.add(f"tasks.{name}.pooling", told)
    for number, stage in enumerate(recipe.stages):
        if isinstance(stage.train, Last) and stage.train.last > outline.depth:
            wrong = f"is {stage.train.last}, and the encoder has {outline.depth} layers."
            problems.add(f"stages.{number}.train.last", wrong)


def new_outline(settings: EncoderSettings) -> Outline:
    """Return the outline of an encoder that is drawn at random."""
    return Outline(settings.layers or (2 if settings.architecture == "lstm" else 12), 512, True)


def _check_encoder(settings: EncoderSettings, problems: Problems) -> None:
    given = [name for name in _NEW_ONLY if getattr(settings, name) is not None]
    lstm = settings.architecture == "lstm"
    if settings.checkpoint is not None and given:
        problems.add("encoder", f"{listed(given)} cannot be chosen with a checkpoint, which settles them.")
    if settings.checkpoint is not None and lstm:
        problems.add("encoder", "an lstm is trained from scratch; it takes no checkpoint.")
    if settings.checkpoint is None and settings.architecture == "auto":
        problems.add("encoder", 'architecture = "auto" needs a checkpoint.')
    if settings.checkpoint is None and settings.tokenizer is not None and settings.vocabulary is not None:
        problems.add("encoder.vocabulary", "does nothing beside 'tokenizer', which has a vocabulary of its own.")
    if lstm and settings.heads is not None:
        problems.add("encoder.heads", "does nothing: an lstm has no attention heads.")
    if settings.checkpoint is None and not _too_large(settings, problems) and not lstm:
        width, heads = settings.width or 768, settings.heads or 12
        if width % heads:
            problems.add("encoder.heads", f"a width of {width} cannot be divided among {heads} heads.")


def _too_large(settings: EncoderSettings, problems: Problems) -> bool:
    """Note sizes of a new encoder that no machine holds, before one tries. Returns whether there are any."""
    large = {key: most for key, most in _LARGEST.items() if (getattr(settings, key) or 0) > most}
    for key, most in large.items():
        problems.add(f"encoder.{key}", f"is {getattr(settings, key)}; wanted a number of at most {most:,}.")
    width, hidden = settings.width or 768, settings.hidden or 3072
    parameters = (settings.layers or 12) * (4 * width**2 + 2 * width * hidden)
    if not large and parameters > _PARAMETERS:
        problems.add("encoder", f"would have {parameters:,} parameters; wanted at most {_PARAMETERS:,}.")
    return bool(large) or parameters > _PARAMETERS


def _check_path(place: str, path: object, problems: Problems) -> None:
    try:
        Path(path).expanduser() if isinstance(path, str) else None
    except RuntimeError:
        problems.add(place, f"is {shown(path)}, the home folder of somebody whom this machine does not know.")


def _check_names(recipe: Recipe, problems: Problems) -> None:
    for name in recipe.tasks:
        if len(name.encode()) > _LONGEST_NAME:
            problems.add(f"tasks.{name[:20]}…", f"a task's name has at most {_LONGEST_NAME} letters.")
    for one, other in combinations(recipe.tasks, 2):
        if _folded(one) == _folded(other):
            told = f"differs from '{one}' only in case: on some disks their files would be the same."
            problems.add(f"tasks.{other}", told)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _check_task(where: str, task: TaskSettings, problems: Problems) -> None:
    texts = [task.text] if isinstance(task.text, str) else (task.text or [])
    for key, columns in (("text", texts), ("label", [task.label]), ("id", [task.id])):
        if "" in columns:
            problems.add(f"{where}.{key}", "is an empty text; wanted the name of a column.")
    if len(texts) == 2 and texts[0] == texts[1] and "label" in kind_of(task).takes:
        problems.add(f"{where}.text", f"names the column '{texts[0]}' twice; a pair has two texts.")
    if task.label is not None and task.label in texts:
        problems.add(f"{where}.label", f"is '{task.label}', which is a text column, too.")
    if task.id is not None and task.id == task.label:
        problems.add(f"{where}.id", f"is '{task.id}', which is the label column, too.")
    if task.dev_rows is not None and task.dev is None:
        problems.add(f"{where}.dev_rows", "does nothing: this task has no 'dev'.")
    if task.evaluate is False and isinstance(task.dev, float):
        problems.add(f"{where}.dev", "would take rows from train that evaluate = false never scores; leave it out.")
    if task.evaluate is False and task.dev is not None and task.dev_rows is not None:
        problems.add(f"{where}.dev_rows", "does nothing beside evaluate = false.")
    _check_labels(where, task, problems)
    features = task.pair.options.get("features")
    if isinstance(features, list) and (twice := _twice([str(feature) for feature in features])):
        problems.add(f"{where}.pair.features", f"names {listed(twice)} twice.")


def _check_labels(where: str, task: TaskSettings, problems: Problems) -> None:
    if task.labels is None:
        return
    if not task.labels and not (task.kind is not None and task.kind.name == "regression"):
        problems.add(f"{where}.labels", "is empty; leave it out to take the labels of train.")
    if twice := _twice(list(task.labels)):
        problems.add(f"{where}.labels", f"names {listed(twice)} twice.")
    if isinstance(task.labels, dict) and (twice := _twice(list(task.labels.values()))):
        problems.add(f"{where}.labels", f"shows two labels as {listed(twice)}: predictions could not tell them apart.")
    if any(not label.strip() for label in task.labels):
        problems.add(f"{where}.labels", "names an empty label; an empty cell of a table is a row without a label.")


def _check_stage(where: str, stage: StageSettings, recipe: Recipe, problems: Problems) -> None:
    if stage.epochs is not None and stage.steps is not None:
        problems.add(where, "a stage takes 'epochs' or 'steps', not both.")
    if twice := _twice(stage.tasks or []):
        problems.add(f"{where}.tasks", f"names {listed(twice)} twice.")
    if recipe.tasks and all(task.dev is None for task in recipe.tasks.values()) and stage.evaluate_every is not None:
        problems.add(f"{where}.evaluate_every", "does nothing: no task has a 'dev' to evaluate on.")
    if stage.train == "heads" and stage.layer_decay != 1.0:
        problems.add(f"{where}.layer_decay", 'does nothing: train = "heads" freezes every layer of the encoder.')
    _check_warmup(where, stage, problems)
    problems.check(f"{where}.aggregator", lambda: _check_surgery(recipe, stage))
    for (first, one), (number, other) in combinations(enumerate(stage.regularizers), 2):
        if _same(one, other) and (both := _acts_on(one, stage, recipe) & _acts_on(other, stage, recipe)):
            told = f"'{other.name}' acts on {listed(sorted(both))} already, as regularizer {first} of this stage."
            problems.add(f"{where}.regularizers.{number}", told)
    for number, settings in enumerate(stage.regularizers):
        if settings.weight == {}:
            problems.add(f"{where}.regularizers.{number}.weight", "is empty, so it acts on no task.")


def _check_warmup(where: str, stage: StageSettings, problems: Problems) -> None:
    warmup, unit = stage.schedule.warmup, stage.schedule.warmup_unit
    place = f"{where}.schedule.warmup"
    steps = unit == "steps" or (unit == "auto" and warmup >= 1)
    if unit == "share" and warmup > 1:
        problems.add(place, f"is {warmup:g}; a share of the stage is at most 1.")
    elif steps and 0 < warmup < 1:
        problems.add(place, f'is {warmup:g} steps; wanted a whole number, or warmup_unit = "share".')
    elif steps and stage.steps is not None and warmup > stage.steps:
        problems.add(place, f"is {warmup:g} steps; the stage has {stage.steps}, so it would never end.")
    elif unit == "epochs" and stage.steps is None and warmup > (stage.epochs or 3.0):
        problems.add(place, f"is {warmup:g} epochs; the stage has {stage.epochs or 3.0:g}, so it would never end.")


def _check_surgery(recipe: Recipe, stage: StageSettings) -> None:
    if new_aggregator(recipe, stage).constant(2) is not None:
        return
    name = stage.aggregator.name
    if stage.train == "heads":
        raise RecipeError(f"'{name}' combines gradients of the encoder, which train = \"heads\" freezes.")
    if not shares_encoder(recipe, stage):
        raise RecipeError(
            f"'{name}' combines the tasks' gradients of one encoder, and no two tasks of this stage share one."
        )


def _same(one: RegularizerSettings, other: RegularizerSettings) -> bool:
    return (one.name, one.options) == (other.name, other.options)


def _acts_on(settings: RegularizerSettings, stage: StageSettings, recipe: Recipe) -> set[str]:
    if isinstance(settings.weight, dict):
        return set(settings.weight)
    return {name for name in recipe.tasks if stage.tasks is None or name in stage.tasks}


def _twice(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
