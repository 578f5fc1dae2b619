"""The momentum teacher by hand: its weights, its schedule, its distance. Shapes: N rows, C classes, D width."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polytask.assembly.parts import Parts
from polytask.errors import RecipeError
from polytask.model import Model, TaskView
from polytask.regularizers.base import regularizers
from polytask.regularizers.bregman import Bregman
from polytask.training.step import Step

Tiny = Callable[..., dict[str, Any]]
NetView = Callable[[str], TaskView]
Begun = Callable[..., tuple[Step, Parts]]
ViewOf = Callable[..., TaskView]

TASKS = ["sentiment", "paraphrase", "similarity"]


class Follower:
    """A teacher that takes note of how far it is told to go."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.shares: list[float] = []

    def follow(self, share: float) -> None:
        self.shares.append(share)

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        assert not state


def begun_with(view: TaskView, made: Bregman, steps: int = 10) -> Follower:
    follower = Follower(copy.deepcopy(view.model))
    made.begin(lambda: follower, steps)
    return follower


def numbers(model: Model) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    return {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_penalty_by_hand(net_view: NetView, kind: str) -> None:
    view, made = net_view(kind), Bregman()
    teacher = begun_with(view, made).model
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(0.8).add_(0.05)
    logits = []
    for model in (view.model, teacher):
        held = numbers(model)
        words_PD = held["encoders.shared.table"][view.batch.streams[0].ids_P.numpy()]
        hidden_PD = np.tanh(words_PD @ held["encoders.shared.inner"].T)
        pooled_ND = np.stack([part.mean(0) for part in np.split(hidden_PD, [2, 5])])
        logits.append(pooled_ND @ held["heads.task.head.output.weight"].T + held["heads.task.head.output.bias"])
    if kind == "classification":
        p_NC, q_NC = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in logits)
        wanted_N = (p_NC * np.log(p_NC / q_NC)).sum(1) + (q_NC * np.log(q_NC / p_NC)).sum(1)
    else:
        wanted_N = (logits[0] - logits[1])[:, 0] ** 2
    assert made.penalty(view, view.run()).tolist() == pytest.approx(wanted_N.tolist(), rel=1e-8)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_its_gradient_by_finite_differences(net_view: NetView, kind: str) -> None:
    view, made = net_view(kind), Bregman()
    teacher = begun_with(view, made).model
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(0.8)
    parameters = list(view.model.parameters())
    found = torch.autograd.grad(made.penalty(view, view.run()).sum(), parameters)
    for parameter, gradient in zip(parameters, found, strict=True):
        along = 0.0
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * 1e-5)
                along += sign * made.penalty(view, view.run()).sum().item() / 2e-5
                parameter.sub_(sign * 1e-5)
        assert gradient.sum().item() == pytest.approx(along, rel=1e-6, abs=1e-8)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_papers_momentum_changes_after_a_tenth_of_the_stage(net_view: NetView) -> None:
    view = net_view("regression")
    for beta, wanted in (("paper", [0.01] * 2 + [0.001] * 18), (0.9, [0.1] * 20)):
        made = Bregman(beta=beta)  # type: ignore[arg-type]
        follower = begun_with(view, made, steps=20)
        for _ in range(20):
            made.after_step(view.model)
        assert follower.shares == pytest.approx(wanted)


def test_a_resumed_schedule_goes_on(net_view: NetView) -> None:
    view, made = net_view("regression"), Bregman()
    state = {"updates": torch.tensor(2)}
    follower = begun_with(view, made, steps=20)
    made.load_state_dict(state)
    made.after_step(view.model)
    assert follower.shares == pytest.approx([0.001])
    assert made.state_dict()["updates"].item() == 3
    assert state["updates"].item() == 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_teacher_is_the_moving_average_of_the_weights(tiny: Tiny, begun: Begun, precision: str) -> None:
    stage = {"steps": 20, "batch_size": 10, "learning_rate": 1e-2, "mixing": "joint", "clip": 0}
    step, _ = begun(tiny(stage | {"regularizers": [{"name": "bregman"}]}, precision=precision))
    wanted = {name: tensor.double() for name, tensor in step.weights.tensors().items()}
    for number in range(4):
        step(number)
        beta = 0.99 if number < 2 else 0.999
        wanted = {name: beta * old + (1 - beta) * step.weights.tensors()[name].double() for name, old in wanted.items()}
    state = step.state_dict()
    held: dict[str, Tensor] = {}
    for name, masters in step.weights.blocks().items():
        flat = state[f"regularizer.0.teacher.{name}"]
        assert flat.dtype is torch.float32
        held |= {slot.name: slot.of(flat) for slot in masters.slots}
    for name, tensor in held.items():
        torch.testing.assert_close(tensor.double(), wanted[name], rtol=1e-5, atol=1e-7)
        assert not torch.equal(tensor, step.weights.tensors()[name])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_is_zero_until_the_weights_move(
    tiny: Tiny, begun: Begun, view_of: ViewOf, task: str, precision: str
) -> None:
    stage = {"steps": 3, "batch_size": 10, "learning_rate": 1e-2, "mixing": "joint"}
    step, parts = begun(tiny(stage | {"regularizers": [{"name": "bregman"}]}, precision=precision, drop=0.2))
    made = step.stage.penalties[0].regularizer
    view = view_of(parts, task)
    assert not made.penalty(view, view.run()).any()
    step(0)
    assert (made.penalty(view, view.run()) > 0).all()


def test_other_dropout_adds_a_distance_of_its_own(tiny: Tiny, begun: Begun, view_of: ViewOf) -> None:
    stage = {"steps": 3, "batch_size": 10, "mixing": "joint"}
    for dropout in ("off", "fresh"):
        step, parts = begun(tiny(stage | {"regularizers": [{"name": "bregman", "dropout": dropout}]}, drop=0.2))
        view = view_of(parts, "sentiment")
        assert (step.stage.penalties[0].regularizer.penalty(view, view.run()) > 0).all()


def test_a_stage_lets_go_of_its_teacher(tiny: Tiny, begun: Begun, view_of: ViewOf) -> None:
    stage = {"steps": 3, "batch_size": 10, "mixing": "joint"}
    step, parts = begun(tiny(stage | {"regularizers": [{"name": "bregman"}]}))
    step.release()
    made = step.stage.penalties[0].regularizer
    assert list(made.state_dict()) == ["updates"]
    view = view_of(parts, "sentiment")
    with pytest.raises(ValueError, match="has not begun"):
        made.penalty(view, view.run())


@pytest.mark.parametrize(
    ("beta", "complaint"), [(1.0, "beta is 1;"), (-0.1, r"beta is -0\.1"), ("old", "option 'beta'")]
)
def test_a_momentum_that_makes_no_sense(beta: Any, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        regularizers.create("bregman", beta=beta)
