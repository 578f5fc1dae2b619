"""One stage of training: its plan, what it trains and how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from polytask.aggregators.base import Aggregator
from polytask.balance.base import LossBalance
from polytask.encoder.base import Encoder
from polytask.heads.pooling.base import Pooling
from polytask.model import SHARED, Model
from polytask.regularizers.base import Penalty

from .optim import Adam, Rule
from .plan import Plan


@dataclass(frozen=True)
class Schedule:
    """The factor on the peak learning rate: warm-up from 0 over ``warmup`` steps, then ``name`` to the stage's end."""

    name: Literal["constant", "linear", "cosine"]
    warmup: int
    steps: int

    def __call__(self, step: int) -> float:
        """Return the factor of a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        left = (self.steps - step) / max(self.steps - self.warmup, 1)
        if self.name == "linear":
            return left
        if self.name == "cosine":
            return 0.5 * (1.0 - math.cos(math.pi * left))
        return 1.0


@dataclass(frozen=True)
class Patience:
    """Ends a stage after ``evaluations`` without a better aggregate (by ``minimum``)."""

    evaluations: int
    minimum: float


@dataclass(frozen=True)
class Average:
    """An exponential moving average θ̄ₜ of the weights θ₁ … θₜ after each step; with ``decay`` d = 1 their plain mean.

    θ̄ₜ = Σ dᵗ⁻ⁱ θᵢ / Σ dᵗ⁻ⁱ: divided by what the factors add up to, as Adam's moments are (Kingma & Ba 2015, §3), so
    that the weights before the first step have no part in it. The plain mean is Polyak & Juditsky's (1992).
    """

    decay: float

    def share(self, step: int) -> float:
        """Return how far the average goes towards the weights after ``step``, counted from 0."""
        if self.decay == 1.0:
            return 1.0 / (step + 1)
        return (1.0 - self.decay) / -math.expm1((step + 1) * math.log(self.decay))


@dataclass(frozen=True)
class Stage:
    """Everything that a stage needs. ``train`` is "all", "heads", or how many layers from the top.

    ``rule`` is the encoder's; ``encoder_rules`` holds those of encoders that have another.
    """

    number: int
    plan: Plan
    train: Literal["all", "heads"] | int
    rule: Rule
    head_rules: Mapping[str, Rule]
    adam: Adam
    schedule: Schedule
    clip: float | None
    balance: LossBalance
    aggregator: Aggregator
    penalties: tuple[Penalty, ...]
    epoch_steps: int
    evaluate_every: int
    patience: Patience | None
    diagnose: bool
    encoder_rules: Mapping[str, Rule] = field(default_factory=dict)
    layer_decay: float = 1.0
    average: Average | None = None

    @property
    def steps(self) -> int:
        return self.plan.steps

    def evaluates_after(self, done: int) -> bool:
        """Say whether an evaluation is due after ``done`` steps."""
        return done % self.evaluate_every == 0 or done == self.steps

    @property
    def tasks(self) -> list[str]:
        return self.plan.names


def touched_tasks(model: Model, stage: Stage) -> set[str]:
    """Return the tasks whose predictions a stage can change: its own, and those that share an encoder that it trains."""
    encoders = {name for name in model.encoders if trained_parameters(model, stage, name)}
    return {*stage.tasks, *(task for task, encoder in model.encoder_of.items() if encoder in encoders)}


def awaited_tasks(stages: Sequence[Stage], number: int) -> set[str]:
    """Return the tasks whose first stage comes after this one: their heads are as they were drawn, and score by chance."""
    begun = {task for stage in stages[: number + 1] for task in stage.tasks}
    return {task for stage in stages[number + 1 :] for task in stage.tasks} - begun


def heirs(model: Model, stages: Sequence[Stage], number: int) -> list[str]:
    """Return the encoders of tasks' own that begin, with this stage, as the shared one stands by now.

    They are those whose tasks take part for the first time, if an earlier stage has trained the shared encoder:
    pretraining first, then separate fine-tuning.
    """
    before = stages[:number]
    if SHARED not in model.encoders or not any(trained_parameters(model, stage, SHARED) for stage in before):
        return []
    used = {model.encoder_of[task] for stage in before for task in stage.tasks}
    now = dict.fromkeys(model.encoder_of[task] for task in stages[number].tasks)
    return [encoder for encoder in now if encoder not in {SHARED, *used}]


def layer_rule(rule: Rule, decay: float, encoder: Encoder, name: str) -> Rule:
    """Return the rule of an encoder's parameter: ``rule`` for the top layer, a lower rate for lower ones.

    ηₗ₋₁ = ξ ηₗ with ξ = ``decay`` (Sun et al. 2019, §5.3.4; Howard & Ruder 2018, §3.2, have 1/ξ = 2.6). What lies
    above the layers learns like the top one, the embeddings like a layer below the first.
    """
    below = max(encoder.depth - encoder.layer_of(name), 0)
    return Rule(rule.learning_rate * decay**below, rule.weight_decay)


def trained_parameters(model: Model, stage: Stage, encoder_name: str) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters of an encoder that a stage trains.

    A pooler, or layers at the top, that no task of the stage reads are left out: without a gradient, weight decay alone
    would move them.
    """
    users = [task for task in stage.tasks if model.encoder_of[task] == encoder_name]
    encoder = model.encoders[encoder_name]
    assert isinstance(encoder, Encoder)
    if stage.train == "heads" or not users:
        return []
    poolings = [model.head(task).pooling for task in users]
    unread = set() if any(pooling.uses_pooler for pooling in poolings) else set(encoder.pooler_parameters())
    lowest = 0 if stage.train == "all" else encoder.depth - stage.train + 1
    highest = _highest(encoder, poolings)
    return [
        (name, parameter)
        for name, parameter in encoder.named_parameters()
        if parameter not in unread and lowest <= encoder.layer_of(name) <= highest
    ]


def reaches(model: Model, stage: Stage, task: str) -> bool:
    """Say whether a task's loss reaches anything that a stage trains."""
    head, encoder = model.head(task), model.encoder(task)
    if any(True for _ in head.parameters()):
        return True
    highest = _highest(encoder, [head.pooling])
    trained = trained_parameters(model, stage, model.encoder_of[task])
    return any(encoder.layer_of(name) <= highest for name, _ in trained)


def _highest(encoder: Encoder, poolings: Sequence[Pooling]) -> int:
    # What stands above all layers (a last norm, the pooler) works on the last one.
    read = max(max(pooling.reads(encoder.depth)) for pooling in poolings)
    return encoder.depth + 1 if read == encoder.depth else read
