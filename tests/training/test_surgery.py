"""Balances, aggregators and cosines in a step, against the tasks' gradients as autograd gives them.

Shapes: T tasks, n numbers of the encoder.
"""

from __future__ import annotations

import copy
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polytask.aggregators.base import GramianAggregator, aggregators
from polytask.assembly.parts import Parts
from polytask.balance.base import LossBalance, balances
from polytask.encoder.base import Encoder, WordEmbedding
from polytask.errors import NonFiniteLoss, RecipeError
from polytask.jobs.train import train
from polytask.model import Model, TaskOutput, TaskView
from polytask.recipe.load import load_recipe
from polytask.run.events import StepResult
from polytask.run.journal import read_journal
from polytask.runtime.keys import torch_generator
from polytask.training.gradients import Conflicts, added_up, cosines, gramian
from polytask.training.step import Step


def weighing(name: str, **options: object) -> GramianAggregator:
    """Return a member that says with which weights gradients are added up."""
    member = aggregators.create(name, **options)
    assert isinstance(member, GramianAggregator)
    return member


Tiny = Callable[..., dict[str, Any]]
PartsOf = Callable[[Mapping[str, Any]], Parts]
StepOf = Callable[..., Step]

TASKS = ["sentiment", "paraphrase", "similarity"]
PAIRS = ["sentiment~paraphrase", "sentiment~similarity", "paraphrase~similarity"]
JOINT = {"steps": 6, "batch_size": 10, "learning_rate": 1e-3, "mixing": "joint", "clip": 0}
SURGERY = [name for name in aggregators.names() if aggregators.create(name).constant(2) is None]
BY_WEIGHTS = [name for name in SURGERY if issubclass(aggregators.member(name), GramianAggregator)]


class Truth:
    """Each task's loss and gradient in a step, from a copy of the model as it stands. Dropout is off."""

    def __init__(self, model: Model, parts: Parts, number: int) -> None:
        model = copy.deepcopy(model).requires_grad_(True)
        for table in model.modules():
            if isinstance(table, WordEmbedding):
                table.gradient_VD = None  # where a step left it pointing at
        self.losses: dict[str, float] = {}
        self.gradients: dict[str, dict[str, Tensor]] = {}
        named = dict(model.named_parameters())
        for task in parts.tasks:
            micros = [micro for micro in parts.stages[0].plan(number) if micro.task == task]
            rows = [int(row) for micro in micros for row in micro.rows]
            batch = parts.train_rows[task].pack(rows)
            assert batch.labels_N is not None
            loss = parts.tasks[task].kind.loss(model(task, batch), batch.labels_N).mean()
            found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            self.losses[task] = loss.item()
            self.gradients[task] = {
                name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found, strict=True)
            }

    def trunk(self, task: str, part: str = "encoders.") -> Tensor:
        return torch.cat([g.flatten() for n, g in self.gradients[task].items() if n.startswith(part)]).double()

    def trunk_Tn(self, weights: Mapping[str, float] | None = None) -> Tensor:
        return torch.stack([self.trunk(task) * (weights or {}).get(task, 1.0) for task in TASKS])


def taken(step: Step) -> dict[str, Tensor]:
    """Return the gradients that the first step's update was given, by parameter: ten times Adam's first moment."""
    blocks = [*step.weights.encoders.values(), *step.weights.heads.values()]
    return {slot.name: 10 * slot.of(block.m) for block in blocks for slot in block.masters.slots}


def trunk_of(gradients: Mapping[str, Tensor], model: Model) -> Tensor:
    names = [name for name, _ in model.named_parameters() if name.startswith("encoders.")]
    return torch.cat([gradients[name].flatten() for name in names]).double()


def assert_near(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert (found - wanted).norm() <= tolerance * wanted.norm()


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert (tensor - other[name]).abs().max() <= tolerance, name


def weights_after(step: Step, steps: int) -> dict[str, Tensor]:
    for number in range(steps):
        step(number)
    return {name: tensor.clone() for name, tensor in step.weights.tensors().items()}


# -- aggregators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_WEIGHTS)
def test_the_encoder_gets_the_combination_and_heads_keep_their_own(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, name: str
) -> None:
    parts = parts_of(tiny(JOINT | {"aggregator": name, "micro_batch": 4}, drop=0.0))
    truth, step = Truth(parts.model, parts, 0), step_of(parts)
    step(0)
    trunk_Tn = truth.trunk_Tn()
    generator = torch_generator(parts.recipe.seed, 0, 0, "aggregator")
    weights_T = weighing(name).weights(trunk_Tn @ trunk_Tn.T, generator)
    assert not torch.allclose(weights_T, weights_T[0].expand(3), rtol=1e-3)
    found = taken(step)
    assert_near(trunk_of(found, parts.model), weights_T @ trunk_Tn, 1e-3)
    for task in TASKS:
        for parameter, gradient in truth.gradients[task].items():
            if parameter.startswith(f"heads.{task}."):
                torch.testing.assert_close(found[parameter], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SURGERY)
def test_heads_get_the_very_gradients_of_the_plain_sum(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, name: str
) -> None:
    gradients = []
    for aggregator in ("sum", name):
        step = step_of(parts_of(tiny(JOINT | {"aggregator": aggregator})))
        step(0)
        gradients.append(taken(step))
    apart = {n for n, gradient in gradients[0].items() if not torch.equal(gradient, gradients[1][n])}
    assert apart
    assert all(name.startswith("encoders.") for name in apart)


def test_pcgrad_adds_up_and_does_not_average(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    def norm(aggregator: str) -> float:
        # One task twice: its gradients agree, so there is nothing to project.
        recipe = tiny(JOINT | {"aggregator": aggregator}, drop=0.0)
        recipe["tasks"] = {"a": recipe["tasks"]["sentiment"], "b": recipe["tasks"]["sentiment"]}
        parts = parts_of(recipe)
        for head in parts.model.heads.values():
            head.load_state_dict(parts.model.heads["a"].state_dict())
        step = step_of(parts)
        result = step(0)
        assert result.cosines == {} or result.cosines["a~b"] > 0
        return float(trunk_of(taken(step), parts.model).norm())

    assert norm("pcgrad") == pytest.approx(norm("sum"), rel=1e-5)
    assert norm("pcgrad") == pytest.approx(2 * norm("mean"), rel=1e-5)


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_the_order_is_not_drawn_from_the_default_generator(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, name: str
) -> None:
    one, other = (step_of(parts_of(tiny(JOINT | {"aggregator": name}))) for _ in range(2))
    weights = weights_after(one, 3)
    for number in range(3):
        torch.manual_seed(number)
        torch.rand(100)
        other(number)
    assert_same(weights, other.weights.tensors())


@pytest.mark.parametrize("name", SURGERY)
def test_a_gradient_that_is_not_finite_reaches_no_aggregator(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, name: str
) -> None:
    parts = parts_of(tiny(JOINT | {"aggregator": name}))
    step = step_of(parts)
    step(0)
    rows = next(micro.rows for micro in parts.stages[0].plan(1) if micro.task == "similarity")
    labels_N = parts.train_rows["similarity"].labels_N
    assert labels_N is not None
    labels_N[int(rows[3])] = math.nan
    before = {key: tensor.clone() for key, tensor in (step.state_dict() | step.weights.tensors()).items()}
    with pytest.raises(NonFiniteLoss, match="task 'similarity'"):
        step(1)
    assert_same(before, step.state_dict() | step.weights.tensors())


@pytest.mark.parametrize("scale", [1e-18, 1e-20, 1e-22, 1e-24, 1e-29])
def test_the_gramian_of_gradients_whose_squares_underflow(scale: float) -> None:
    gradient_Tn = torch.randn(3, 700_000, generator=torch.Generator().manual_seed(0))
    gradient_Tn[1] = scale * (gradient_Tn[1] - 0.3 * gradient_Tn[0])
    kept_Tn, gramian_TT = gradient_Tn.clone(), gramian(gradient_Tn)
    assert torch.equal(gradient_Tn, kept_Tn)
    wanted_TT = gradient_Tn.double() @ gradient_Tn.double().T
    norms_T = wanted_TT.diagonal().sqrt()
    torch.testing.assert_close(
        gramian_TT / norms_T / norms_T[:, None], wanted_TT / norms_T / norms_T[:, None], rtol=1e-5, atol=1e-5
    )
    assert cosines(gramian_TT, TASKS)[PAIRS[0]] == pytest.approx(-0.287, abs=1e-3)


def test_a_gradient_too_short_for_any_weight_counts_as_zero() -> None:
    gradient_Tn = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    gradient_Tn[1] *= 1e-33
    gramian_TT = gramian(gradient_Tn)
    assert not gramian_TT[1].any()
    assert gramian_TT[0, 2] == gramian(gradient_Tn[::2])[0, 1]


@pytest.mark.parametrize("name", BY_WEIGHTS)
@pytest.mark.parametrize("scale", [1e-21, 1e-24, 1e-28, 1e-33, 0.0])
def test_a_task_as_good_as_learned_does_no_harm(name: str, scale: float) -> None:
    for seed in range(4):
        gradient_Tn = torch.randn(3, 200, generator=torch.Generator().manual_seed(seed))
        gradient_Tn[1] = scale * (gradient_Tn[1] - 0.3 * gradient_Tn[0])
        weights_T = weighing(name).weights(gramian(gradient_Tn), torch.Generator().manual_seed(seed))
        assert weights_T.isfinite().all()
        assert added_up(gradient_Tn, weights_T).norm().isfinite()


def test_weights_that_fp32_does_not_hold_are_shrunk_together() -> None:
    gradient_Tn = torch.tensor([[1e-30, 0.0], [0.0, 1e-30]])
    found_n = added_up(gradient_Tn, torch.tensor([3e45, -1e45], dtype=torch.float64))
    assert found_n[0].item() == pytest.approx(-3 * found_n[1].item())
    assert found_n[0] > 1


@pytest.mark.parametrize("name", SURGERY)
def test_a_step_with_a_task_as_good_as_learned(tiny: Tiny, parts_of: PartsOf, step_of: StepOf, name: str) -> None:
    parts = parts_of(tiny(JOINT | {"aggregator": name, "learning_rate": 1e-9}))
    labels_N = parts.train_rows["paraphrase"].labels_N
    assert labels_N is not None
    labels_N.zero_()
    output = parts.model.get_submodule("heads.paraphrase.head.output")
    assert isinstance(output.bias, Tensor)
    output.bias.data.fill_(-57.0)  # of the right class: gradients of about 1e-25
    step = step_of(parts)
    for number in range(4):
        assert list(step(number).cosines) == PAIRS


# -- balances that weigh a step by its own losses ----------------------------------------------------------------------


@pytest.mark.parametrize("aggregator", ["sum", "mean", "pcgrad", "cagrad"])
@pytest.mark.parametrize("micro_batch", [None, 3])
def test_famo_scales_trunk_and_heads_by_the_losses_of_the_batch(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, aggregator: str, micro_batch: int | None
) -> None:
    stage = JOINT | {"aggregator": aggregator, "micro_batch": micro_batch, "balance": "famo"}
    recipe = tiny(stage, drop=0.0)
    recipe["tasks"]["paraphrase"]["weight"] = 3.0
    parts = parts_of(recipe)
    truth, step = Truth(parts.model, parts, 0), step_of(parts)
    assert step(0).losses == pytest.approx(truth.losses, rel=1e-5)
    inverse = {task: 1 / truth.losses[task] for task in TASKS}
    weights = {task: inverse[task] / sum(inverse.values()) for task in TASKS}
    weights["paraphrase"] *= 3.0
    trunk_Tn = truth.trunk_Tn(weights)
    generator = torch_generator(parts.recipe.seed, 0, 0, "aggregator")
    combined_n = weighing(aggregator).weights(trunk_Tn @ trunk_Tn.T, generator) @ trunk_Tn
    found = taken(step)
    assert_near(trunk_of(found, parts.model), combined_n, 1e-3)
    for task in TASKS:
        for parameter, gradient in truth.gradients[task].items():
            if parameter.startswith(f"heads.{task}."):
                torch.testing.assert_close(found[parameter], weights[task] * gradient, rtol=1e-3, atol=1e-6)


class Spy(LossBalance):
    """Notes what it is told."""

    uses_losses = True
    looks_again = True

    def __init__(self) -> None:
        super().__init__(torch.ones(3), 1)
        self.told: list[tuple[Tensor, Tensor, Tensor]] = []
        self.asked = torch.zeros(3)

    def weights(self, losses_T: Tensor | None) -> Tensor:
        assert losses_T is not None
        self.asked = losses_T
        return self.given_T

    def observe(self, losses_T: Tensor, after_T: Tensor | None) -> None:
        assert after_T is not None
        self.told.append((self.asked, losses_T, after_T))


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_a_balance_that_looks_again_sees_the_same_rows_after_the_update(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, micro_batch: int | None
) -> None:
    parts = parts_of(tiny(JOINT | {"micro_batch": micro_batch}, drop=0.0))
    spy, step = Spy(), step_of(parts)
    object.__setattr__(step.stage, "balance", spy)
    for number in range(3):
        before = Truth(parts.model, parts, number).losses
        result = step(number)
        after = Truth(parts.model, parts, number).losses
        asked_T, losses_T, after_T = spy.told[-1]
        assert torch.equal(asked_T, losses_T)
        assert losses_T.tolist() == pytest.approx([result.losses[task] for task in TASKS])
        assert losses_T.tolist() == pytest.approx([before[task] for task in TASKS], rel=1e-5)
        assert after_T.tolist() == pytest.approx([after[task] for task in TASKS], rel=1e-5)
        assert not torch.allclose(losses_T, after_T)


def test_looking_again_is_under_the_same_dropout(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    parts = parts_of(tiny(JOINT | {"learning_rate": 1e-12}, drop=0.3))
    spy, step = Spy(), step_of(parts)
    object.__setattr__(step.stage, "balance", spy)
    step(0)
    _, losses_T, after_T = spy.told[-1]
    torch.testing.assert_close(losses_T, after_T, rtol=1e-6, atol=0.0)
    parts.model.eval()
    assert losses_T.tolist() != pytest.approx(list(Truth(parts.model, parts, 0).losses.values()), rel=1e-4)


@pytest.mark.parametrize("looks_again", [False, True])
def test_a_balance_is_told_what_is_minimised_or_where_it_looks_again_like_things(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, monkeypatch: pytest.MonkeyPatch, looks_again: bool
) -> None:
    penalty = {"name": "rdrop", "weight": {"sentiment": 2.0, "similarity": 0.5}}
    step, told = step_of(parts_of(tiny(JOINT | {"regularizers": [penalty], "balance": "uncertainty"}))), []
    monkeypatch.setattr(type(step.stage.balance), "looks_again", looks_again)
    monkeypatch.setattr(step.stage.balance, "observe", lambda losses_T, after_T: told.append((losses_T, after_T)))
    for number in range(2):
        result = step(number)
        assert result.penalties["sentiment"] > 0
        minimised = {task: result.losses[task] + result.penalties[task] for task in TASKS}
        losses_T, after_T = told[-1]
        wanted = result.losses if looks_again else minimised
        assert losses_T.tolist() == pytest.approx([wanted[task] for task in TASKS])
        assert (after_T is not None) == looks_again


def test_averaged_losses_give_heads_their_share_too(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    found = []
    for stage in ({"balance": "mean"}, {"aggregator": "mean"}, {}):
        step = step_of(parts_of(tiny(JOINT | stage)))
        step(0)
        found.append(taken(step))
    averaged, trunk_only, added = found
    for name, gradient in added.items():
        torch.testing.assert_close(averaged[name], gradient / 3, rtol=1e-4, atol=1e-7)
        share = 3 if name.startswith("encoders.") else 1
        torch.testing.assert_close(trunk_only[name], gradient / share, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("stage", "buffers", "passes"),
    [
        ({}, 1, 3),
        ({"aggregator": "mean", "balance": "uncertainty"}, 1, 3),
        ({"balance": "dwa"}, 1, 3),
        ({"aggregator": "gradvac", "balance": "dwa"}, 3, 3),
        ({"diagnose": True}, 3, 3),
        ({"balance": "famo"}, 3, 6),
    ],
)
def test_only_what_is_asked_for_is_paid_for(
    tiny: Tiny,
    parts_of: PartsOf,
    step_of: StepOf,
    monkeypatch: pytest.MonkeyPatch,
    stage: dict[str, Any],
    buffers: int,
    passes: int,
) -> None:
    step = step_of(parts_of(tiny(JOINT | stage)))
    run, seen = TaskView.run, []

    def counted(view: TaskView, *arguments: Any, **options: Any) -> TaskOutput:
        seen.append(view.task.name)
        return run(view, *arguments, **options)

    monkeypatch.setattr(TaskView, "run", counted)
    result = step(0)
    assert len(step._buffers["encoder shared"]) == buffers
    assert seen == TASKS * (passes // 3)
    assert bool(result.cosines) == (buffers > 1)
    assert bool(result.layer_cosines) == stage.get("diagnose", False)


@pytest.mark.parametrize("name", [name for name in balances.names() if not balances.member(name).uses_losses])
def test_a_balance_of_earlier_losses_weighs_any_mixing(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, name: str
) -> None:
    step = step_of(parts_of(tiny(JOINT | {"mixing": "round_robin", "balance": name, "steps": 9}, drop=0.0)))
    plain = step_of(parts_of(tiny(JOINT | {"mixing": "round_robin", "steps": 9}, drop=0.0)))
    weights = weights_after(step, 9)
    assert step.stage.balance.weights(None).isfinite().all()
    if name == "fixed":
        assert_same(weights, weights_after(plain, 9))


# -- cosines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [{"aggregator": "pcgrad"}, {"diagnose": True}, {"balance": "famo"}], ids=str)
def test_cosines_are_those_of_the_tasks_gradients(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, stage: dict[str, Any]
) -> None:
    parts = parts_of(tiny(JOINT | stage | {"micro_batch": 4}, drop=0.0))
    step, conflicts = step_of(parts), 0
    for number in range(4):
        truth = Truth(parts.model, parts, number)
        result = step(number)
        wanted = {f"{a}~{b}": between(truth.trunk(a), truth.trunk(b)) for a, b in (p.split("~") for p in PAIRS)}
        assert list(result.cosines) == PAIRS
        assert result.cosines == pytest.approx(wanted, abs=1e-4)
        conflicts += min(wanted.values()) < 0
    assert step.conflicts.share == conflicts / 4


def test_a_diagnosis_is_layer_by_layer(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    parts = parts_of(tiny(JOINT | {"diagnose": True, "aggregator": "cagrad"}, drop=0.0))
    truth, step = Truth(parts.model, parts, 0), step_of(parts)
    layers = {"0": "embeddings", "1": "layers.0.", "2": "layers.1.", "3": "pooler."}
    result = step(0)
    assert list(result.layer_cosines) == list(layers)
    for layer, part in layers.items():
        for pair, cosine in result.layer_cosines[layer].items():
            a, b = (part_of(truth, task, part) for task in pair.split("~"))
            assert cosine == pytest.approx(between(a, b), abs=1e-4)
    assert list(result.layer_cosines["1"]) == PAIRS
    assert list(result.layer_cosines["3"]) == PAIRS[:1]  # similarity pools by mean: it has no gradient up there


def part_of(truth: Truth, task: str, part: str) -> Tensor:
    named = truth.gradients[task].items()
    chosen = [g.flatten() for n, g in named if n.removeprefix("encoders.shared.").startswith(part)]
    return torch.cat(chosen).double()


def between(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=0))


@pytest.mark.parametrize(
    ("aggregator", "tolerance"), [("pcgrad", 0.0), ("sum", 1e-5)]
)  # of a sum, the order of adding is another
def test_a_diagnosis_changes_nothing(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, aggregator: str, tolerance: float
) -> None:
    stage = JOINT | {"aggregator": aggregator, "optimizer": {"name": "adamw", "epsilon": 1e-5}}
    plain, told = (step_of(parts_of(tiny(stage | {"diagnose": diagnose}))) for diagnose in (False, True))
    assert_same(weights_after(plain, 3), weights_after(told, 3), tolerance)


def with_two_encoders(parts: Parts) -> Parts:
    shared = parts.model.encoders["shared"]
    assert isinstance(shared, Encoder)
    encoder_of = {"sentiment": "texts", "paraphrase": "pairs", "similarity": "pairs"}
    heads = {task: parts.model.head(task) for task in TASKS}
    return replace(parts, model=Model({"texts": shared, "pairs": copy.deepcopy(shared)}, heads, encoder_of))


def test_tasks_with_encoders_of_their_own_are_not_compared(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    step = step_of(with_two_encoders(parts_of(tiny(JOINT | {"aggregator": "gradvac", "diagnose": True}, drop=0.0))))
    for number in range(2):
        result = step(number)
        assert list(result.cosines) == ["paraphrase~similarity"]
        assert {pair for layer in result.layer_cosines.values() for pair in layer} == {"paraphrase~similarity"}
    state = step.state_dict()
    assert state["aggregator.pairs.usual"].shape == (2, 2)
    assert "aggregator.texts.usual" not in state


@pytest.mark.parametrize("balance", ["fixed", "famo"])
@pytest.mark.parametrize("name", aggregators.names())
def test_an_encoder_of_one_task_gets_that_tasks_gradient(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, name: str, balance: str
) -> None:
    stage = JOINT | {"aggregator": name, "balance": balance, "diagnose": True}
    parts = with_two_encoders(parts_of(tiny(stage, drop=0.0)))
    truth, step = Truth(parts.model, parts, 0), step_of(parts)
    step(0)
    inverse = {task: 1 / truth.losses[task] for task in TASKS}
    weight = inverse["sentiment"] / sum(inverse.values()) if balance == "famo" else 1.0
    found = {parameter: g for parameter, g in taken(step).items() if parameter.startswith("encoders.texts.")}
    for parameter, gradient in found.items():
        torch.testing.assert_close(gradient, weight * truth.gradients["sentiment"][parameter], rtol=1e-3, atol=1e-6)
    assert len(step._buffers["encoder texts"]) == 1
    assert len(step._buffers["encoder pairs"]) == 2


def test_a_frozen_encoder_has_no_cosines(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    step = step_of(parts_of(tiny(JOINT | {"train": "heads", "balance": "famo"})))
    result = step(0)
    assert (result.cosines, result.layer_cosines, step.conflicts.share) == ({}, {}, None)


def test_conflicts_are_counted_on_after_a_crash(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    one, other = (step_of(parts_of(tiny(JOINT | {"diagnose": True}))) for _ in range(2))
    for cosine in (-0.5, 0.5, 0.5):
        one.conflicts.count({"a~b": cosine})
    other.load_state_dict({name: tensor.clone() for name, tensor in one.state_dict().items()})
    assert other.conflicts.share == pytest.approx(1 / 3)
    other.conflicts.count({"a~b": 0.5})
    assert other.conflicts.share == pytest.approx(1 / 4)


def test_cosines_and_conflicts_by_hand() -> None:
    gramian_TT = torch.tensor([[4.0, -3.0, 0.0], [-3.0, 9.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert cosines(gramian_TT, ["a", "b", "c"]) == {"a~b": -0.5}
    conflicts = Conflicts()
    assert conflicts.share is None
    for seen in ({"a~b": 0.3}, {"a~b": 0.3, "a~c": -0.1}, {}, {"a~b": 0.0}):
        conflicts.count(seen)
    assert conflicts.share == pytest.approx(1 / 3)


def test_the_journal_records_cosines_and_the_share_of_steps_in_conflict(tiny: Tiny, tmp_path: Path) -> None:
    stage = {**JOINT, "aggregator": "imtl_g", "diagnose": True, "evaluate_every": 3}
    run = train(tiny(stage, {**JOINT, "evaluate_every": 3}), tmp_path / "run")
    events = read_journal(run / "journal.jsonl")
    for number in (0, 1):
        steps = [event for event in events if event["event"] == "step" and event["stage"] == number]
        evaluations = [event for event in events if event["event"] == "evaluation" and event["stage"] == number]
        if number == 1:
            assert not any({"cosines", "layer_cosines", "conflict"} & event.keys() for event in (*steps, *evaluations))
        else:
            in_conflict = [min(event["cosines"].values()) < 0 for event in steps]
            assert all(event["layer_cosines"].keys() == {"0", "1", "2", "3"} for event in steps)
            assert [event["conflict"] for event in evaluations] == [sum(in_conflict[:3]) / 3, sum(in_conflict) / 6]


def test_the_journal_records_conflicts_without_any_evaluation_and_once(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny({**JOINT, "aggregator": "pcgrad"}, {**JOINT, "aggregator": "mgda"}, JOINT)
    for task in recipe["tasks"].values():
        task.pop("dev")
    events = read_journal(train(recipe, tmp_path / "run") / "journal.jsonl")
    ends = [event for event in events if event["event"] == "stage"]
    assert [(event["stage"], event["step"]) for event in ends] == [(0, 6), (1, 6)]
    for event in ends:
        steps = [e for e in events if e["event"] == "step" and e["stage"] == event["stage"]]
        assert event["conflict"] == sum(min(step["cosines"].values()) < 0 for step in steps) / 6


# -- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        (
            {"balance": "famo"},
            r"stages\.0\.balance: 'famo' weighs the losses of one step.*'proportional' puts one task",
        ),
        ({"diagnose": True}, r"stages\.0\.diagnose: it compares the gradients.*Use mixing = \"joint\""),
        ({"aggregator": "cagrad"}, r"stages\.0\.aggregator: 'cagrad' combines.*Use mixing = \"joint\""),
        ({"balance": {"name": "dwa", "period": 0}}, "period is 0"),
    ],
)
def test_what_compares_tasks_wants_them_in_one_step(tiny: Tiny, stage: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        load_recipe(tiny(stage))
    if "period" not in told:
        load_recipe(tiny(stage | {"mixing": "joint"}))


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ({"aggregator": "cagrad"}, "aggregator: 'cagrad' combines the tasks' gradients of one encoder, and no two"),
        ({"diagnose": True}, "diagnose: it compares the tasks' gradients of one encoder, and no two"),
    ],
)
def test_what_compares_tasks_wants_two_of_one_encoder(tiny: Tiny, stage: dict[str, Any], told: str) -> None:
    apart = tiny(JOINT | stage)
    for task in ("sentiment", "similarity"):
        apart["tasks"][task]["encoder"] = "own"
    for recipe in (apart, tiny(JOINT | stage | {"tasks": ["sentiment"]}), tiny(stage, only=("sentiment",))):
        with pytest.raises(RecipeError, match=rf"stages\.0\.{told}"):
            load_recipe(recipe)
    apart["tasks"]["similarity"]["encoder"] = "shared"
    load_recipe(apart)
    load_recipe(tiny({"aggregator": "mean"}, only=("sentiment",)))


def test_a_diagnosis_wants_an_encoder_that_is_trained(tiny: Tiny) -> None:
    with pytest.raises(RecipeError, match=r'stages\.0\.diagnose: .* which train = "heads" freezes'):
        load_recipe(tiny(JOINT | {"train": "heads", "diagnose": True}))


# -- several processes -----------------------------------------------------------------------------------------------

WORKER = """
import json, sys
from polytask.jobs.train import train
train(json.loads(sys.argv[1]), sys.argv[2])
"""


def test_two_processes_balance_and_combine_as_one(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, tmp_path: Path
) -> None:
    stage = JOINT | {"micro_batch": 3, "aggregator": "gradvac", "balance": "famo", "diagnose": True}
    recipe = tiny(stage | {"optimizer": {"name": "adamw", "epsilon": 1e-5}}, drop=0.1)
    run_two(recipe, tmp_path / "two")
    step = step_of(parts_of(recipe))
    events = [e for e in read_journal(tmp_path / "two" / "journal.jsonl") if e["event"] == "step"]
    assert len(events) == 6
    for number, event in enumerate(events):
        result: StepResult = step(number)
        assert event["losses"] == pytest.approx(result.losses, rel=1e-4)
        assert event["cosines"] == pytest.approx(result.cosines, abs=1e-4)
    assert_same(load_file(tmp_path / "two" / "model.safetensors"), step.weights.tensors(), 1e-5)


def run_two(recipe: Mapping[str, Any], out: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", WORKER, json.dumps(recipe), str(out)]
    workers = [
        subprocess.Popen(command, env=os.environ | group | {"RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    complaints = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(complaints)


@pytest.mark.parametrize("balance", ["fixed", "mean", "uncertainty", "famo", {"name": "dwa", "period": 1}])
def test_weights_that_change_are_told(tiny: Tiny, parts_of: PartsOf, step_of: StepOf, balance: Any) -> None:
    step = step_of(parts_of(tiny(JOINT | {"balance": balance})))
    seen = []
    for number in range(4):
        before = step.stage.balance.weights(None).tolist() if not step.stage.balance.uses_losses else []
        result = step(number)
        seen.append(result.weights)
        if result.weights and before:
            assert list(result.weights.values()) == pytest.approx(before)
    changing = balance not in ("fixed", "mean")
    assert all((set(weights) == set(TASKS)) == changing for weights in seen)
    assert (seen[0] != seen[-1]) == changing
