"""Settings -> members of the open rooms: kinds, heads, regularizers and the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import nn

from polytask.aggregators.base import Aggregator, aggregators
from polytask.balance.base import LossBalance, balances
from polytask.config import Member, Problem, Recipe, RegularizerSettings, StageSettings, TaskSettings, invalid
from polytask.data.mixing.base import Mixing, mixings
from polytask.encoder.base import Encoder
from polytask.errors import OptionError, RecipeError, listed, nearest, shown
from polytask.heads.heads.base import heads
from polytask.heads.pairs.base import Merge, pair_features
from polytask.heads.pooling.base import poolings
from polytask.model import Model, TaskHead
from polytask.regularizers.base import regularizers
from polytask.runtime.keys import reseed
from polytask.tasks.kinds.base import Kind, kinds
from polytask.tasks.task import Task
from polytask.training.stages import Penalty

_PAIR_OPTIONS = {"cross": ("types",), "bi": ("features",)}
_HEAD_PARAMETERS = 1_000_000_000
_BI_FEATURES = ["u", "v", "abs_difference"]


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

    def settle(self, source: str = "The recipe") -> None:
        """Raise RecipeError when something was wrong."""
        if self.found:
            raise invalid(source, [f"{place}: {sentence}" for place, sentence in self.found])


def _overlap(place: str, unread: str) -> bool:
    member = place.count(".") > 1 and unread.startswith(f"{place}.")
    return place == unread or place.startswith(f"{unread}.") or member


def check_recipe(recipe: Recipe, problems: Problems | None = None) -> None:
    """Check every member and option, before a table is read: into ``problems``, or raising RecipeError."""
    asked, problems = problems, Problems() if problems is None else problems
    for name, task in recipe.tasks.items():
        where = f"tasks.{name}"
        problems.check(where, lambda name=name: _check_name(name))  # type: ignore[misc]
        _check_columns(where, task, problems)
        problems.check(f"{where}.kind", lambda task=task: new_kind(task, given_labels(task)))  # type: ignore[misc]
        problems.check(f"{where}.pair", lambda task=task: pair_mode(task))  # type: ignore[misc]
        problems.check(f"{where}.pooling", lambda t=task: poolings.check(t.pooling.name, t.pooling.options))  # type: ignore[misc]
        problems.check(f"{where}.head", lambda task=task: _head_options(task))  # type: ignore[misc]
    for number, stage in enumerate(recipe.stages):
        where = f"stages.{number}"
        problems.check(f"{where}.tasks", lambda stage=stage: stage_tasks(recipe, stage))  # type: ignore[misc]
        problems.check(f"{where}.mixing", lambda stage=stage: new_mixing(stage))  # type: ignore[misc]
        problems.check(f"{where}.balance", lambda s=stage: balances.check(s.balance.name, s.balance.options))  # type: ignore[misc]
        problems.check(f"{where}.aggregator", lambda stage=stage: new_aggregator(recipe, stage))  # type: ignore[misc]
        for place, settings in enumerate(stage.regularizers):
            problems.check(f"{where}.regularizers.{place}", lambda s=stage, r=settings: new_penalty(recipe, s, r))  # type: ignore[misc]
    if asked is None:
        problems.settle()


def new_kind(settings: TaskSettings, labels: Mapping[str, str]) -> Kind:
    """Return a task's kind with the given labels."""
    if settings.kind is None:
        raise RecipeError(f"is missing; there are {listed(kinds.names())} (or give a 'preset').")
    return kinds.create(settings.kind.name, labels, **settings.kind.options)


def given_labels(settings: TaskSettings) -> dict[str, str]:
    """Return the labels that a recipe gives, spelling to name; none when they are to be read off train."""
    labels = settings.labels or {}
    return dict(labels) if isinstance(labels, dict) else {label: label for label in labels}


def pair_mode(settings: TaskSettings) -> tuple[Literal["single", "cross", "bi"], Mapping[str, Any]]:
    """Return how a task's texts meet, and the options of that mode."""
    name, options = settings.pair.name, settings.pair.options
    if name not in _PAIR_OPTIONS:
        raise RecipeError(f"'{name}' is not a pair mode.{nearest(name, _PAIR_OPTIONS)} There are 'cross' and 'bi'.")
    for key in options:
        if key not in _PAIR_OPTIONS[name]:
            raise RecipeError(f"'{name}' takes no option '{key}'; it takes {listed(_PAIR_OPTIONS[name])}.")
    if not isinstance(options.get("types", True), bool):
        raise RecipeError(f"option 'types' of 'cross' is {options['types']!r}; it is true or false.")
    if name == "bi":
        new_merge(options.get("features", _BI_FEATURES), 1)
    if isinstance(settings.text, list) and len(settings.text) == 2:
        return ("cross" if name == "cross" else "bi"), options
    if name == "bi" or options:
        raise RecipeError("a task with one text column has no pair; name two columns in 'text'.")
    return "single", options


def new_task(name: str, settings: TaskSettings, labels: Mapping[str, str], max_length: int) -> Task:
    """Return the record of a task."""
    mode, options = pair_mode(settings)
    return Task(
        name=name,
        kind=new_kind(settings, labels),
        text=text_columns(settings),
        label=str(settings.label),
        id=settings.id,
        max_length=max_length,
        pair=mode,
        token_types=bool(options.get("types", True)),
    )


def text_columns(settings: TaskSettings) -> tuple[str, ...]:
    """Return the one or two text columns."""
    return (settings.text,) if isinstance(settings.text, str) else tuple(settings.text or ())


def new_model(encoder: Encoder, tasks: Mapping[str, Task], recipe: Recipe) -> Model:
    """Return the model: one shared encoder, and what each task has of its own, drawn from the recipe's seed."""
    made: dict[str, TaskHead] = {}
    for name, task in tasks.items():
        reseed(recipe.seed, "head", name)
        made[name] = _new_head(task, recipe.tasks[name], encoder)
    return Model({"shared": encoder}, made, dict.fromkeys(tasks, "shared"))


def new_merge(features: Any, width: int) -> Merge:
    """Return the pair features that a recipe lists, each a name or { name = …, option = … }."""
    if not isinstance(features, list) or not features:
        raise RecipeError(f"'features' is {features!r}; it is a list of {listed(pair_features.names())}.")
    members = [Member.model_validate({"name": f} if isinstance(f, str) else f) for f in features]
    return Merge([pair_features.create(member.name, width, **member.options) for member in members])


def stage_tasks(recipe: Recipe, stage: StageSettings) -> list[str]:
    """Return the tasks of a stage."""
    unknown = [name for name in stage.tasks or () if name not in recipe.tasks]
    if unknown:
        near = nearest(unknown[0], recipe.tasks)
        raise RecipeError(f"there is no task {listed(unknown)}.{near} There are {listed(recipe.tasks)}.")
    if stage.tasks == []:
        raise RecipeError("a stage needs at least one task.")
    return [name for name in recipe.tasks if stage.tasks is None or name in stage.tasks]


def new_mixing(stage: StageSettings) -> Mixing:
    """Return a stage's mixing policy."""
    return mixings.create(stage.mixing.name, **stage.mixing.options)


def new_balance(recipe: Recipe, stage: StageSettings) -> LossBalance:
    """Return a stage's loss balance, which knows the factors that the recipe gives its tasks."""
    given_T = torch.tensor([recipe.tasks[name].weight for name in stage_tasks(recipe, stage)])
    return balances.create(stage.balance.name, given_T, **stage.balance.options)


def new_aggregator(recipe: Recipe, stage: StageSettings) -> Aggregator:
    """Return a stage's aggregator. Surgery on steps that hold one task only is refused: there is nothing to combine."""
    aggregator = aggregators.create(stage.aggregator.name, **stage.aggregator.options)
    several = len(stage_tasks(recipe, stage)) > 1
    if several and aggregator.constant(2) is None and not new_mixing(stage).joins_tasks:
        raise RecipeError(
            f"'{stage.aggregator.name}' combines the gradients of several tasks in one step, and the mixing "
            f"'{stage.mixing.name}' puts one task in a step. Use mixing = \"joint\"."
        )
    return aggregator


def new_penalties(recipe: Recipe, stage: StageSettings) -> tuple[Penalty, ...]:
    """Return a stage's regularizers with their weights for each task."""
    return tuple(new_penalty(recipe, stage, settings) for settings in stage.regularizers)


def new_penalty(recipe: Recipe, stage: StageSettings, settings: RegularizerSettings) -> Penalty:
    """Return a regularizer of a stage with its weights for each task."""
    tasks, weight = stage_tasks(recipe, stage), settings.weight
    weights = weight if isinstance(weight, dict) else dict.fromkeys(tasks, weight)
    for name in weights:
        if name not in tasks:
            near = nearest(name, tasks)
            raise RecipeError(f"'{settings.name}' has a weight for '{name}', which is no task of this stage.{near}")
    return Penalty(regularizers.create(settings.name, **settings.options), weights)


def _check_name(name: str) -> None:
    # A task's name is part of file names, and the name of a module in torch's ModuleDict.
    if not re.fullmatch(r"\w[\w-]*", name):
        raise RecipeError("a task's name is made of letters, digits, '_' and '-'.")
    if hasattr(nn.ModuleDict(), name):
        raise RecipeError(f"'{name}' means something to torch; give the task another name, such as '{name}_task'.")


def _check_columns(where: str, settings: TaskSettings, problems: Problems) -> None:
    if settings.train is None:
        problems.add(f"{where}.train", "is missing: the table to learn from.")
    if settings.text is None:
        problems.add(f"{where}.text", "is missing: the name of the text column, or of two for a pair.")
    if isinstance(settings.text, list) and len(settings.text) not in (1, 2):
        problems.add(f"{where}.text", f"names {len(settings.text)} columns; a task has one text or two.")
    if settings.label is None:
        problems.add(f"{where}.label", "is missing: the name of the label column.")
    if isinstance(settings.dev, float) and not 0 < settings.dev < 1:
        problems.add(f"{where}.dev", f"is {settings.dev}; a share of train lies between 0 and 1.")


def _head_options(settings: TaskSettings) -> nn.Module:
    try:
        with torch.device("meta"):  # sizes that no memory holds are the person's slip, not the machine's
            head = heads.create(settings.head.name, 2, 2, **settings.head.options)
    except (RuntimeError, OverflowError, TypeError) as error:  # what torch says of numbers that it cannot count to
        told = f"'{settings.head.name}' of the heads cannot be built with {shown(settings.head.options)}."
        raise RecipeError(told) from error
    numbers = sum(parameter.numel() for parameter in head.parameters())
    if numbers > _HEAD_PARAMETERS:
        raise RecipeError(f"has {numbers:,} parameters; a head has at most {_HEAD_PARAMETERS:,}.")
    return head


def _new_head(task: Task, settings: TaskSettings, encoder: Encoder) -> TaskHead:
    pooling = poolings.create(settings.pooling.name, encoder.width, **settings.pooling.options)
    if pooling.uses_summary and not encoder.has_summary:
        raise RecipeError(
            f"tasks.{task.name}.pooling: this checkpoint has no pooler, which '{settings.pooling.name}' reads; "
            "use 'mean' or 'max'."
        )
    _, options = pair_mode(settings)
    merge = new_merge(options.get("features", _BI_FEATURES), pooling.width) if task.pair == "bi" else None
    width = pooling.width if merge is None else merge.width
    return TaskHead(pooling, heads.create(settings.head.name, width, task.kind.outputs, **settings.head.options), merge)
