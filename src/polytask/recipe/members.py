"""Settings -> members of the open rooms: kinds, heads, regularizers and the rest."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import nn

from polytask.aggregators.base import Aggregator, aggregators
from polytask.balance.base import LossBalance, balances
from polytask.config import (
    Member,
    Problem,
    ProjectionSettings,
    Recipe,
    RegularizerSettings,
    StageSettings,
    Symmetric,
    TaskSettings,
    invalid,
)
from polytask.data.mixing.base import Mixing, mixings
from polytask.encoder.base import Encoder
from polytask.errors import OptionError, RecipeError, listed, nearest, shown
from polytask.heads.heads.base import heads
from polytask.heads.orders import Orders, as_given, exchanged, neighbours
from polytask.heads.pairs.base import Merge, pair_features
from polytask.heads.pooling.base import Pooling, poolings
from polytask.heads.projection import Projection
from polytask.heads.thresholds import Thresholds
from polytask.model import Model, TaskHead
from polytask.regularizers.base import regularizers
from polytask.runtime.keys import reseed
from polytask.tasks.kinds.base import Kind, kinds
from polytask.tasks.task import Task
from polytask.training.stages import Penalty

from .borrowed import check_rows_from
from .fits import check_head, check_layers
from .objectives import (
    check_encoder_fits,
    check_parts,
    check_stage,
    input_columns,
    is_auxiliary,
    kind_of,
    new_token_head,
    own_pair_mode,
)

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
        problems.check(f"{where}.encoder", lambda name=name: encoder_of(name, recipe))  # type: ignore[misc]
        _check_columns(where, task, problems)
        problems.check(f"{where}.kind", lambda task=task: new_kind(task, given_labels(task)))  # type: ignore[misc]
        problems.check(where, lambda task=task: check_parts(task))  # type: ignore[misc]
        problems.check(f"{where}.rows_from", lambda name=name: check_rows_from(name, recipe))  # type: ignore[misc]
        problems.check(f"{where}.kind", lambda task=task: check_encoder_fits(recipe, task))  # type: ignore[misc]
        problems.check(f"{where}.pair", lambda task=task: pair_mode(task))  # type: ignore[misc]
        problems.check(f"{where}.pooling", lambda task=task: new_pooling(task, 2))  # type: ignore[misc]
        problems.check(f"{where}.symmetric", lambda task=task: consistency(task))  # type: ignore[misc]
        problems.check(f"{where}.head", lambda task=task: _head_options(task))  # type: ignore[misc]
        problems.check(f"{where}.head", lambda task=task: _check_fit(task))  # type: ignore[misc]
        problems.check(f"{where}.resample", lambda task=task: _check_resample(task))  # type: ignore[misc]
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
    own = own_pair_mode(settings)
    if own is not None:
        return own, {}
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
        text=input_columns(settings),
        label=settings.label or "",
        id=settings.id,
        max_length=max_length,
        pair=mode,
        token_types=bool(options.get("types", True)),
        consistency=consistency(settings),
        auxiliary=is_auxiliary(settings),
    )


def consistency(settings: TaskSettings) -> float | None:
    """Return the weight of the consistency term of a symmetric pair task; None where the order counts."""
    if settings.symmetric is False:
        return None
    if len(text_columns(settings)) != 2:
        raise RecipeError("a task with one text column has no order; name two columns in 'text'.")
    return Symmetric().consistency if settings.symmetric is True else settings.symmetric.consistency


def encoder_of(task: str, recipe: Recipe) -> str:
    """Return the name of a task's encoder: "shared", or the task's own name."""
    if recipe.tasks[task].encoder == "shared":
        return "shared"
    if task == "shared":
        raise RecipeError("an encoder of its own would be called 'shared', as the common one is; rename the task.")
    return task


def text_columns(settings: TaskSettings) -> tuple[str, ...]:
    """Return the one or two text columns."""
    return (settings.text,) if isinstance(settings.text, str) else tuple(settings.text or ())


def new_model(encoder: Encoder, tasks: Mapping[str, Task], recipe: Recipe) -> Model:
    """Return the model: its encoders, all as the given one, and each task's head, drawn from the recipe's seed."""
    made: dict[str, TaskHead] = {}
    for name, task in tasks.items():
        reseed(recipe.seed, "head", name)
        made[name] = _new_head(task, recipe.tasks[name], encoder)
    users = {name: encoder_of(name, recipe) for name in tasks}
    first, *others = dict.fromkeys(users.values())
    return Model({first: encoder} | {name: copy.deepcopy(encoder) for name in others}, made, users)


def new_pooling(settings: TaskSettings, width: int) -> Pooling:
    """Return a task's pooling."""
    return poolings.create(settings.pooling.name, width, **settings.pooling.options)


def new_projection(settings: ProjectionSettings, inputs: int) -> Projection:
    """Return the projection of vectors of ``inputs`` numbers."""
    options = settings.model_dump(exclude={"width"})
    return Projection(inputs, settings.width or inputs, **options)


def new_merge(features: Any, width: int) -> Merge:
    """Return the pair features that a recipe lists, each a name or { name = …, option = … }."""
    if not isinstance(features, list) or not features:
        raise RecipeError(f"'features' is {features!r}; it is a list of {listed(pair_features.names())}.")
    for feature in features:
        if not isinstance(feature, str) and not (isinstance(feature, dict) and isinstance(feature.get("name"), str)):
            raise RecipeError(f"'features' has {feature!r}; a pair feature is a name, or {{ name = …, option = … }}.")
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
    mixing = mixings.create(stage.mixing.name, **stage.mixing.options)
    if mixing.stretches and stage.batch_tokens is not None:
        raise RecipeError(f"'{stage.mixing.name}' stretches batches by rows; 'batch_tokens' would cut them by tokens.")
    return mixing


def new_balance(recipe: Recipe, stage: StageSettings, epoch_steps: int) -> LossBalance:
    """Return a stage's loss balance, which knows the factors that the recipe gives its tasks.

    One that weighs a step's tasks against each other is refused where steps hold one task only.
    """
    given_T = torch.tensor([recipe.tasks[name].weight for name in stage_tasks(recipe, stage)])
    balance = balances.create(stage.balance.name, given_T, epoch_steps, **stage.balance.options)
    if balance.uses_losses and _splits_tasks(recipe, stage):
        raise RecipeError(
            f"'{stage.balance.name}' weighs the losses of one step against each other, {_one_task(stage)}"
        )
    return balance


def new_aggregator(recipe: Recipe, stage: StageSettings) -> Aggregator:
    """Return a stage's aggregator. Surgery on steps that hold one task only is refused: there is nothing to combine."""
    aggregator = aggregators.create(stage.aggregator.name, **stage.aggregator.options)
    if aggregator.constant(2) is None and _splits_tasks(recipe, stage):
        raise RecipeError(
            f"'{stage.aggregator.name}' combines the gradients of several tasks in one step, {_one_task(stage)}"
        )
    return aggregator


def _check_diagnosis(recipe: Recipe, stage: StageSettings) -> None:
    if stage.diagnose and _splits_tasks(recipe, stage):
        raise RecipeError(f"it compares the gradients of several tasks in one step, {_one_task(stage)}")


def _splits_tasks(recipe: Recipe, stage: StageSettings) -> bool:
    return len(stage_tasks(recipe, stage)) > 1 and not new_mixing(stage).joins_tasks


def _one_task(stage: StageSettings) -> str:
    return f"and the mixing '{stage.mixing.name}' puts one task in a step. Use mixing = \"joint\"."


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
    if settings.train is None and settings.rows_from is None:
        problems.add(
            f"{where}.train", "is missing: the table to learn from (or 'rows_from': tasks to borrow rows from)."
        )
    if settings.text is None:
        problems.add(f"{where}.text", "is missing: the name of the text column, or of two for a pair.")
    if isinstance(settings.text, list) and len(settings.text) not in (1, 2):
        problems.add(f"{where}.text", f"names {len(settings.text)} columns; a task has one text or two.")
    if settings.label is None and kind_of(settings).reads_labels:
        problems.add(f"{where}.label", "is missing: the name of the label column.")
    if isinstance(settings.dev, float) and not 0 < settings.dev < 1:
        problems.add(f"{where}.dev", f"is {settings.dev}; a share of train lies between 0 and 1.")


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
    check_stage(recipe, stage, stage_tasks(recipe, stage))


def _head_options(settings: TaskSettings) -> nn.Module:
    try:
        with torch.device("meta"):  # sizes that no memory holds are the person's slip, not the machine's
            head = heads.create(settings.head.name, 1, 1, **settings.head.options)
    except (RuntimeError, OverflowError, TypeError) as error:  # what torch says of numbers that it cannot count to
        told = f"'{settings.head.name}' of the heads cannot be built with {shown(settings.head.options)}."
        raise RecipeError(told) from error
    numbers = sum(parameter.numel() for parameter in head.parameters())
    if numbers > _HEAD_PARAMETERS:
        raise RecipeError(f"has {numbers:,} parameters; a head has at most {_HEAD_PARAMETERS:,}.")
    return head


def _check_fit(settings: TaskSettings) -> None:
    try:
        kind, head = new_kind(settings, {}), heads.member(settings.head.name)
        mode, options = pair_mode(settings)
    except RecipeError:
        return  # told where it belongs
    if kind.head != "logits":
        return
    check_head(settings.head.name, head, kind, options.get("features", _BI_FEATURES) if mode == "bi" else None)


def _new_head(task: Task, settings: TaskSettings, encoder: Encoder) -> TaskHead:
    if task.kind.head == "words":
        return new_token_head(task.name, encoder)
    pooling = new_pooling(settings, encoder.width)
    check_layers(task.name, pooling, encoder)
    if pooling.uses_summary and not encoder.has_summary:
        raise RecipeError(
            f"tasks.{task.name}.pooling: this checkpoint has no pooler, which '{settings.pooling.name}' reads; "
            "use 'first', 'mean' or another."
        )
    projection = None if settings.projection is None else new_projection(settings.projection, pooling.width)
    width = pooling.width if projection is None else projection.width
    if task.kind.head == "vectors":
        return TaskHead(pooling, nn.Identity(), new_merge(["u", "v"], width), projection=projection)
    _, options = pair_mode(settings)
    merge = new_merge(options.get("features", _BI_FEATURES), width) if task.pair == "bi" else None
    width = width if merge is None else merge.width
    kind = task.kind
    head = heads.create(settings.head.name, width, kind.head_outputs, **settings.head.options)
    thresholds = Thresholds(kind.outputs) if kind.head_outputs < kind.outputs else None
    return TaskHead(pooling, head, merge, projection=projection, thresholds=thresholds, orders=_orders(task))


def _orders(task: Task) -> Orders:
    if task.consistency is None:
        return as_given
    return exchanged if task.pair == "bi" else neighbours
