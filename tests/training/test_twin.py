"""A second copy of the weights: what it shares, how it follows; and the average that is evaluated and handed on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from polytask.assembly.parts import Parts
from polytask.inference.predictor import load
from polytask.jobs.train import train
from polytask.run.folder import RunFolder
from polytask.run.journal import read_journal
from polytask.training.step import Step

Tiny = Callable[..., dict[str, Any]]
PartsOf = Callable[[Mapping[str, Any]], Parts]
StepOf = Callable[..., Step]

STAGE = {"steps": 6, "batch_size": 10, "learning_rate": 1e-2, "mixing": "joint"}


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_copies_what_is_trained_and_shares_what_is_frozen(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, precision: str
) -> None:
    stage = STAGE | {"train": {"last": 1}, "tasks": ["sentiment", "similarity"]}
    step = step_of(parts_of(tiny(stage, precision=precision)))
    twin = step.weights.twin()
    own, theirs = dict(step.model.named_parameters()), dict(twin.model.named_parameters())
    assert own.keys() == theirs.keys()
    trained = {name for name, parameter in own.items() if parameter.requires_grad}
    assert {name for name in own if own[name] is not theirs[name]} == trained == twin.tensors().keys()
    assert not any(parameter.requires_grad for parameter in theirs.values())
    assert all(theirs[name].dtype is own[name].dtype for name in own)
    assert twin.model.training
    before = snapshot(theirs)
    step(0)
    assert same(before, theirs)  # what moved was not its own
    assert not same(snapshot(own), theirs)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_follows_at_a_distance(tiny: Tiny, parts_of: PartsOf, step_of: StepOf, precision: str) -> None:
    step = step_of(parts_of(tiny(STAGE, precision=precision)))
    twin = step.weights.twin()
    old = snapshot(twin.tensors())
    step(0)
    new = snapshot(step.weights.tensors())
    twin.follow(0.25)
    for name, tensor in twin.tensors().items():
        torch.testing.assert_close(tensor, old[name] + 0.25 * (new[name] - old[name]))
    for name, parameter in twin.model.named_parameters():
        assert torch.equal(parameter, twin.tensors()[name].to(parameter.dtype))
    assert same(new, step.weights.tensors())
    state = snapshot(twin.state_dict())
    again = step.weights.twin()
    again.load_state_dict(state)
    assert same(again.tensors(), twin.tensors())
    assert same(dict(again.model.named_parameters()), dict(twin.model.named_parameters()))
    twin.take_over()
    assert same(twin.tensors(), step.weights.tensors())
    assert same(dict(twin.model.named_parameters()), dict(step.model.named_parameters()))


@pytest.mark.parametrize("decay", [0.7, 1.0])
def test_the_average_by_hand_and_training_goes_on_without_it(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, decay: float
) -> None:
    plain = step_of(parts_of(tiny(STAGE)))
    averaged = step_of(parts_of(tiny(STAGE | {"average": decay})))
    seen: list[dict[str, Tensor]] = []
    for number in range(5):
        assert plain(number).losses == averaged(number).losses
        seen.append({name: tensor.double() for name, tensor in plain.weights.tensors().items()})
        factors = [decay ** (number - place) for place in range(number + 1)]
        for name, tensor in averaged.weights.tensors().items():
            mean = sum(factor * weights[name] for factor, weights in zip(factors, seen, strict=True)) / sum(factors)
            torch.testing.assert_close(tensor.double(), mean, rtol=1e-5, atol=1e-6)
    assert same(dict(plain.model.named_parameters()), dict(averaged.model.named_parameters()))
    assert same(averaged.weights.tensors(), dict(averaged.weights.evaluated.named_parameters()))
    assert averaged.weights.evaluated is not averaged.model
    assert plain.weights.evaluated is plain.model
    wanted = snapshot(averaged.weights.tensors())
    averaged.release()
    assert same(wanted, dict(averaged.model.named_parameters()))  # what the next stage starts from


def test_what_is_scored_is_what_is_kept(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(STAGE | {"average": 0.8, "evaluate_every": 2}, STAGE | {"train": "heads"}, checkpoint_every=3)
    plain = tiny(STAGE | {"evaluate_every": 2}, STAGE | {"train": "heads"}, checkpoint_every=3)
    runs = [train(chosen, tmp_path / name).folder for name, chosen in (("averaged", recipe), ("plain", plain))]
    events = [read_journal(run / "journal.jsonl") for run in runs]
    steps = [[e["losses"] for e in found if e["event"] == "step" and e["stage"] == 0] for found in events]
    assert steps[0] == steps[1]
    scores = [[e["aggregate"] for e in found if e["event"] == "evaluation"] for found in events]
    assert scores[0] != scores[1]
    index = RunFolder(runs[0]).read_index()
    for checkpoint, wanted in (("best", index.best_aggregate), ("last", scores[0][-1])):
        assert load(runs[0], checkpoint=checkpoint).evaluate("dev").aggregate == pytest.approx(wanted, abs=1e-12)
    best = load_file(RunFolder(runs[0]).weights(str(index.best)))
    assert same(load_file(runs[0] / "model.safetensors"), best)
    assert json.loads((runs[0] / "index.json").read_text())["finished"]
