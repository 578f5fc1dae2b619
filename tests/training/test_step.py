"""The step: what it computes is what plain torch computes, moves what it should, and nothing when a loss is not finite."""

from __future__ import annotations

import copy
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from polytask.assembly.parts import Parts
from polytask.errors import NonFiniteLoss
from polytask.model import Model, TaskOutput, TaskView
from polytask.regularizers.base import Penalty, Regularizer
from polytask.run.journal import read_journal
from polytask.runtime.keys import torch_generator
from polytask.runtime.processes import Processes
from polytask.training.gradients import gramian
from polytask.training.step import Step

Tiny = Callable[..., dict[str, Any]]
PartsOf = Callable[[Mapping[str, Any]], Parts]
StepOf = Callable[..., Step]

TASKS = ["sentiment", "paraphrase", "similarity"]
# A large ε: gradients that are zero but for rounding (those of attention's key biases) must not become whole updates.
SMOOTH = {"name": "adamw", "epsilon": 1e-5}
JOINT = {"steps": 5, "batch_size": 10, "learning_rate": 1e-3, "mixing": "joint", "optimizer": SMOOTH}


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    """Return the names of the weights that changed."""
    assert before.keys() == after.keys()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def snapshot(step: Step) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in step.weights.tensors().items()}


def weights_after(step: Step, steps: int) -> dict[str, Tensor]:
    for number in range(steps):
        step(number)
    return snapshot(step)


def assert_close(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    worst = max((float((tensor - other[name]).abs().max()), name) for name, tensor in one.items())
    assert worst[0] <= tolerance, worst


# -- against plain torch ---------------------------------------------------------------------------------------------


def mean_loss(task: str, logits_NC: Tensor, labels_N: Tensor, train_N: Tensor) -> Tensor:
    if task == "sentiment":
        return F.cross_entropy(logits_NC, labels_N)
    if task == "paraphrase":
        return F.binary_cross_entropy_with_logits(logits_NC.squeeze(1), labels_N.float())
    return F.mse_loss(logits_NC.squeeze(1), (labels_N - train_N.mean()) / train_N.std(correction=0))


def task_gradients(model: Model, parts: Parts, step: int) -> dict[str, dict[str, Tensor]]:
    """Return the gradient of each task's mean loss, by task and parameter, as autograd gives it."""
    gradients = {}
    named = dict(model.named_parameters())
    for micro in parts.stages[0].plan(step):
        batch, train_N = parts.train_rows[micro.task].pack(micro.rows), parts.train_rows[micro.task].labels_N
        assert batch.labels_N is not None
        assert train_N is not None
        loss = mean_loss(micro.task, model(micro.task, batch), batch.labels_N, train_N)
        found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        gradients[micro.task] = {n: g for n, g in zip(named, found, strict=True) if g is not None}
    return gradients


def added(gradients: Mapping[str, Mapping[str, Tensor]], factors: Mapping[str, float]) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for task, own in gradients.items():
        for name, gradient in own.items():
            factor = factors[task] if name.startswith("encoders.") else 1.0
            total[name] = total.get(name, torch.zeros_like(gradient)) + factor * gradient
    return total


class PlainTorch:
    """The same training with torch's own optimizer and clipping, one parameter at a time."""

    def __init__(self, parts: Parts, optimizer: type[torch.optim.Optimizer], clip: float) -> None:
        self.parts, self.clip = parts, clip
        self.model = copy.deepcopy(parts.model).train()
        norms = {
            f"{place}.{name}"
            for place, module in self.model.named_modules()
            if isinstance(module, nn.LayerNorm)
            for name, _ in module.named_parameters()
        }
        stage = parts.stages[0]
        groups: list[dict[str, Any]] = []
        for name, parameter in self.model.named_parameters():
            rule = stage.head_rules[name.split(".")[1]] if name.startswith("heads.") else stage.rule
            decay = 0.0 if name in norms or name.endswith(".bias") else rule.weight_decay
            groups.append({"params": [parameter], "lr": rule.learning_rate, "weight_decay": decay})
        self.peaks = [group["lr"] for group in groups]
        make: Any = optimizer
        self.optimizer = make(groups, betas=(0.9, 0.999), eps=1e-5)

    def step(self, number: int, gradients: Mapping[str, Tensor]) -> float:
        parameters = dict(self.model.named_parameters())
        for name, parameter in parameters.items():
            parameter.grad = gradients.get(name)
        norm = nn.utils.clip_grad_norm_(parameters.values(), self.clip)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self.parts.stages[0].schedule(number)
        self.optimizer.step()
        return float(norm)

    def weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}


@pytest.mark.parametrize("aggregator", ["sum", "mean"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
def test_steps_equal_those_of_plain_torch(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, aggregator: str, optimizer: str
) -> None:
    options = {"name": optimizer, "epsilon": 1e-5}
    stage = JOINT | {"aggregator": aggregator, "clip": 0.5, "weight_decay": 0.1, "optimizer": options}
    recipe = tiny(stage, drop=0.0)
    recipe["tasks"]["sentiment"] |= {"learning_rate": 5e-3, "weight_decay": 0.3}
    parts = parts_of(recipe)
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    plain = PlainTorch(parts, kinds[optimizer], clip=0.5)
    step = step_of(parts)
    factor = 1.0 if aggregator == "sum" else 1 / 3
    for number in range(5):
        norm = plain.step(number, added(task_gradients(plain.model, parts, number), dict.fromkeys(TASKS, factor)))
        assert norm > 0.5  # the clipping is not idle
        assert step(number).norm == pytest.approx(norm, rel=1e-5)
    assert_close(snapshot(step), plain.weights())


def test_without_clipping_too(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    parts = parts_of(tiny(JOINT | {"clip": 0}, drop=0.0))
    plain, step = PlainTorch(parts, torch.optim.AdamW, clip=1e9), step_of(parts)
    for number in range(3):
        plain.step(number, added(task_gradients(plain.model, parts, number), dict.fromkeys(TASKS, 1.0)))
        step(number)
    assert_close(snapshot(step), plain.weights())


def test_a_tasks_weight_scales_its_loss_alone(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    recipe = tiny(JOINT | {"clip": 0}, drop=0.0)
    recipe["tasks"]["paraphrase"]["weight"] = 3.0
    parts = parts_of(recipe)
    plain, step = PlainTorch(parts, torch.optim.AdamW, clip=1e9), step_of(parts)
    for number in range(3):
        gradients = task_gradients(plain.model, parts, number)
        gradients["paraphrase"] = {name: 3.0 * gradient for name, gradient in gradients["paraphrase"].items()}
        plain.step(number, added(gradients, dict.fromkeys(TASKS, 1.0)))
        step(number)
    assert_close(snapshot(step), plain.weights())


def test_pcgrad_is_the_projection_of_the_tasks_gradients(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    parts = parts_of(tiny(JOINT | {"aggregator": "pcgrad"}, drop=0.0))
    plain, step = PlainTorch(parts, torch.optim.AdamW, clip=1.0), step_of(parts)
    conflicts = 0
    for number in range(5):
        gradients = task_gradients(plain.model, parts, number)
        trunk = [name for name, _ in plain.model.named_parameters() if name.startswith("encoders.")]
        flat = [flattened(gradients[task], trunk, plain.model) for task in TASKS]
        conflicts += sum(bool(flat[i] @ flat[j] < 0) for i in range(3) for j in range(i))
        total = projected(flat, torch_generator(parts.recipe.seed, 0, number, "aggregator"))
        combined = added(gradients, dict.fromkeys(TASKS, 1.0)) | unflattened(total, trunk, plain.model)
        plain.step(number, combined)
        step(number)
    assert conflicts > 0
    assert_close(snapshot(step), plain.weights())


@pytest.mark.parametrize("name", ["smart", "rdrop"])
def test_a_penalty_is_part_of_its_tasks_gradient_under_surgery(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, name: str
) -> None:
    weights = {"sentiment": 5.0, "similarity": 0.5}
    penalties = [{"name": name, "weight": weights, **({"radius": 0.2} if name == "smart" else {})}]
    parts = parts_of(tiny(JOINT | {"aggregator": "pcgrad", "regularizers": penalties}, drop=0.0))
    plain, step = PlainTorch(parts, torch.optim.AdamW, clip=1.0), step_of(parts)
    made, named = parts.stages[0].penalties[0].regularizer, dict(plain.model.named_parameters())
    conflicts = 0
    for number in range(5):
        gradients: dict[str, dict[str, Tensor]] = {}
        for micro in parts.stages[0].plan(number):
            batch = parts.train_rows[micro.task].pack(micro.rows)
            view = TaskView(plain.model, parts.tasks[micro.task], batch, (0, 0, number, micro.task, micro.index))
            clean = view.run()
            loss_N = clean.loss_N + weights.get(micro.task, 0.0) * made.penalty(view, clean)
            found = torch.autograd.grad(loss_N.mean(), list(named.values()), allow_unused=True)
            gradients[micro.task] = {n: g for n, g in zip(named, found, strict=True) if g is not None}
        trunk = [parameter for parameter in named if parameter.startswith("encoders.")]
        flat = [flattened(gradients[task], trunk, plain.model) for task in TASKS]
        conflicts += sum(bool(flat[i] @ flat[j] < 0) for i in range(3) for j in range(i))
        total = projected(flat, torch_generator(parts.recipe.seed, 0, number, "aggregator"))
        plain.step(number, added(gradients, dict.fromkeys(TASKS, 1.0)) | unflattened(total, trunk, plain.model))
        step(number)
    assert conflicts > 0
    # The worst direction hangs on rounding: what is left of it after five steps is far below what the penalty moves.
    assert_close(snapshot(step), plain.weights(), tolerance=5e-5)


def test_lower_layers_learn_more_slowly(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    parts = parts_of(tiny(JOINT | {"layer_decay": 0.5, "weight_decay": 0.1}, drop=0.0))
    plain = PlainTorch(parts, torch.optim.AdamW, clip=1.0)
    below = {"embeddings": 2, "layers.0": 1}
    for number, (name, _) in enumerate(plain.model.named_parameters()):
        steps = [count for place, count in below.items() if name.startswith(f"encoders.shared.{place}.")]
        plain.peaks[number] *= 0.5 ** (steps[0] if steps else 0)
    step = step_of(parts)
    for number in range(4):
        plain.step(number, added(task_gradients(plain.model, parts, number), dict.fromkeys(TASKS, 1.0)))
        step(number)
    assert_close(snapshot(step), plain.weights())


def flattened(gradients: Mapping[str, Tensor], names: list[str], model: Model) -> Tensor:
    parameters = dict(model.named_parameters())
    whole = [gradients.get(name, torch.zeros_like(parameters[name])).flatten() for name in names]
    return torch.cat(whole).double()


def unflattened(flat: Tensor, names: list[str], model: Model) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    pieces = torch.split(flat.float(), [parameters[name].numel() for name in names])
    return {name: piece.view_as(parameters[name]) for name, piece in zip(names, pieces, strict=True)}


def projected(gradients: list[Tensor], generator: torch.Generator) -> Tensor:
    """Algorithm 1 of Yu et al. 2020, on the gradients themselves."""
    total = torch.zeros_like(gradients[0])
    for i, gradient in enumerate(gradients):
        own = gradient.clone()
        for j in torch.randperm(len(gradients), generator=generator).tolist():
            inner = own @ gradients[j]
            if i != j and inner < 0:
                own -= inner / (gradients[j] @ gradients[j]) * gradients[j]
        total += own
    return total


def test_a_gramian_holds_the_inner_products() -> None:
    gradients_Tn = torch.randn(3, 3 * 2**20 + 5, generator=torch.Generator().manual_seed(0))
    wanted_TT = gradients_Tn.double() @ gradients_Tn.double().t()
    found_TT = gramian(gradients_Tn)
    assert found_TT.dtype is torch.float64
    torch.testing.assert_close(found_TT, wanted_TT, rtol=1e-4, atol=1.0)


# -- accumulation, processes, precision ------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregator", ["sum", "mean", "pcgrad"])
def test_micro_batches_add_up_to_the_batch(tiny: Tiny, parts_of: PartsOf, step_of: StepOf, aggregator: str) -> None:
    stage = JOINT | {"aggregator": aggregator}
    whole = step_of(parts_of(tiny(stage, drop=0.0)))
    pieces = step_of(parts_of(tiny(stage | {"micro_batch": 3}, drop=0.0)))
    assert len(pieces.stage.plan(0)) == 3 * math.ceil(10 / 3)
    for number in range(3):
        one, other = whole(number), pieces(number)
        assert one.losses == pytest.approx(other.losses, rel=1e-5)
        assert (one.rows, one.tokens) == (other.rows, other.tokens)
    assert_close(snapshot(whole), snapshot(pieces))


def test_dropout_zero_leaves_no_dropout(tiny: Tiny, parts_of: PartsOf) -> None:
    parts = parts_of(tiny(JOINT, drop=0.0))
    parts.model.train()
    batch = parts.train_rows["paraphrase"].pack(range(10))
    with torch.no_grad():
        assert torch.equal(parts.model("paraphrase", batch), parts.model("paraphrase", batch))
        parts.model.eval()
        evaluated_NC = parts.model("paraphrase", batch)
    parts.model.train()
    torch.testing.assert_close(parts.model("paraphrase", batch).detach(), evaluated_NC, rtol=1e-5, atol=1e-6)


WORKER = """
import json, sys
from polytask.jobs.train import train
train(json.loads(sys.argv[1]), sys.argv[2])
"""


def run_processes(recipe: Mapping[str, Any], out: Path, count: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", WORKER, json.dumps(recipe), str(out)]
    workers = [
        subprocess.Popen(command, env=os.environ | group | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(count)
    ]
    complaints = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * count, "\n".join(complaints)


def test_two_processes_train_the_same_weights_as_one(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, tmp_path: Path
) -> None:
    # Dropout is on: the key of a micro-batch does not know which process runs it.
    recipe = tiny(JOINT | {"micro_batch": 3, "aggregator": "pcgrad"}, drop=0.1)
    run_processes(recipe, tmp_path / "two", 2)
    step = step_of(parts_of(recipe))
    events = [e for e in read_journal(tmp_path / "two" / "journal.jsonl") if e["event"] == "step"]
    for number, event in enumerate(events):
        result = step(number)
        assert event["losses"] == pytest.approx(result.losses, rel=1e-5)
        assert (event["rows"], event["tokens"]) == (result.rows, result.tokens)
    assert len(events) == 5
    assert_close(snapshot(step), load_file(tmp_path / "two" / "model.safetensors"))


def test_bfloat16_follows_float32(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    stage = JOINT | {"steps": 20}
    exact = step_of(parts_of(tiny(stage, drop=0.0)))
    rounded = step_of(parts_of(tiny(stage, drop=0.0, precision="bfloat16")))
    for number in range(20):
        one, other = exact(number), rounded(number)
        # bf16 keeps 8 bits: 0.4 % a number, and what 20 steps make of it
        assert one.losses == pytest.approx(other.losses, rel=0.03)
    assert {parameter.dtype for parameter in rounded.model.parameters()} == {torch.float32, torch.bfloat16}
    masters = rounded.weights.tensors()
    for name, parameter in rounded.model.named_parameters():
        assert masters[name].dtype is torch.float32
        assert torch.equal(parameter.detach(), masters[name].to(parameter.dtype)), name
    shadowed = [n for n, p in rounded.model.named_parameters() if p.dtype is torch.bfloat16]
    assert any(not torch.equal(masters[name], masters[name].bfloat16().float()) for name in shadowed)
    rounded.release()
    assert {parameter.dtype for parameter in rounded.model.parameters()} == {torch.float32}
    assert moved(masters, dict(rounded.model.named_parameters())) == set()


def test_updates_too_small_for_bfloat16_still_add_up(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    stage = JOINT | {"learning_rate": 1e-6, "schedule": "constant", "clip": 0}
    step = step_of(parts_of(tiny(stage, precision="bfloat16")))
    before = snapshot(step)
    assert moved(before, weights_after(step, 2)) == set(before)


@pytest.mark.parametrize("task", TASKS)
def test_a_row_in_a_batch_gets_the_logits_that_it_gets_alone(tiny: Tiny, parts_of: PartsOf, task: str) -> None:
    parts = parts_of(tiny(JOINT))
    parts.model.eval()
    rows = parts.train_rows[task]
    with torch.no_grad():
        batch = rows.pack(np.arange(20))
        together_NC = parts.model(task, batch)
        alone_NC = torch.cat([parts.model(task, rows.pack([row])) for row in batch.rows])
    assert len(set(batch.streams[0].lengths)) > 3  # ragged
    torch.testing.assert_close(together_NC, alone_NC, rtol=1e-5, atol=1e-6)


# -- what moves ------------------------------------------------------------------------------------------------------


def test_heads_without_rows_in_a_step_stay_where_they_are(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    step = step_of(parts_of(tiny(JOINT | {"mixing": "round_robin", "steps": 9, "weight_decay": 0.1})))
    for number in range(9):
        before = snapshot(step)
        result = step(number)
        (task,) = result.losses
        assert task == TASKS[number % 3]
        read = {name for name in before if name.startswith(("encoders.", f"heads.{task}."))}
        if task == "similarity":  # pools by mean; but the other tasks do read the pooler, so it takes part
            read |= {name for name in before if ".pooler." in name}
        assert moved(before, snapshot(step)) == read


def test_frozen_encoder(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    for precision in ("float32", "bfloat16"):
        step = step_of(parts_of(tiny(JOINT | {"train": "heads"}, precision=precision)))
        before = snapshot(step)
        changed = moved(before, weights_after(step, 2))
        assert changed == {name for name in before if name.startswith("heads.")}
        assert all(not p.requires_grad for n, p in step.model.named_parameters() if n.startswith("encoders."))
        step.release()
        assert all(parameter.requires_grad for parameter in step.model.parameters())


def test_the_last_layers(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    step = step_of(parts_of(tiny(JOINT | {"train": {"last": 1}})))
    before = snapshot(step)
    trained = ("heads.", "encoders.shared.layers.1.", "encoders.shared.pooler.")
    assert moved(before, weights_after(step, 2)) == {name for name in before if name.startswith(trained)}


def test_a_pooler_that_nobody_reads_does_not_move(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    step = step_of(parts_of(tiny(JOINT | {"tasks": ["similarity"], "weight_decay": 0.1})))
    before = snapshot(step)
    changed = moved(before, weights_after(step, 2))
    still = {name for name in before if ".pooler." in name or name.startswith(("heads.sentiment", "heads.paraphrase"))}
    assert len(still) == 6
    assert changed == set(before) - still


def test_every_stage_starts_with_a_fresh_optimizer_on_the_weights_of_the_last(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf
) -> None:
    parts = parts_of(tiny(JOINT | {"train": "heads"}, JOINT, precision="bfloat16"))
    first = step_of(parts, 0)
    left = weights_after(first, 2)
    first.release()
    second = step_of(parts, 1)
    assert moved(left, second.weights.tensors()) == set()
    assert all(not tensor.any() for name, tensor in second.state_dict().items() if name.endswith(("m", "v", "updates")))


# -- a loss that is not a number -------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_task_and_rows_and_moves_nothing(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf
) -> None:
    parts = parts_of(tiny(JOINT))
    step = step_of(parts)
    step(0)
    rows = next(micro.rows for micro in parts.stages[0].plan(1) if micro.task == "similarity")
    labels_N = parts.train_rows["similarity"].labels_N
    assert labels_N is not None
    bad, good = (parts.train_rows["similarity"].ids[row] for row in (rows[3], rows[4]))
    labels_N[int(rows[3])] = math.nan
    before, state = snapshot(step), {name: tensor.clone() for name, tensor in step.state_dict().items()}
    with pytest.raises(NonFiniteLoss) as raised:
        step(1)
    assert f"task 'similarity': {bad}" in str(raised.value)
    assert "stage 1, step 2" in str(raised.value)
    assert good not in str(raised.value)
    assert "sentiment" not in str(raised.value)
    assert moved(before, snapshot(step)) == set()
    assert moved(state, step.state_dict()) == set()


def test_weights_that_are_not_finite_are_noticed(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    parts = parts_of(tiny(JOINT))
    step = step_of(parts)
    with torch.no_grad():
        dict(step.model.named_parameters())["heads.paraphrase.head.output.weight"][0, 0] = math.inf
    with pytest.raises(NonFiniteLoss, match="task 'paraphrase': paraphrase-train-"):
        step(0)


class Poison(Regularizer):
    """Its value is fine, its gradient is not."""

    def penalty(self, view: TaskView, clean: TaskOutput) -> Tensor:
        return (clean.loss_N * 0.0).sqrt()


def test_a_gradient_that_is_not_finite_names_the_rows_of_the_step(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf
) -> None:
    parts = parts_of(tiny(JOINT, only=("sentiment",)))
    step = step_of(parts)
    object.__setattr__(step.stage, "penalties", (Penalty(Poison(), {"sentiment": 1.0}),))
    before = snapshot(step)
    with pytest.raises(NonFiniteLoss, match=r"The gradient is not finite.*\n.*task 'sentiment': sentiment-train-"):
        step(0)
    assert moved(before, snapshot(step)) == set()


class Neighbour(Processes):
    """Another process, whose rows of the first task have no finite loss."""

    def add_up(self, *tensors: Tensor) -> None:
        losses_T = tensors[-2]
        losses_T[0] = math.nan


def test_a_loss_of_another_process_is_not_laid_at_this_ones_door(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf
) -> None:
    step = step_of(parts_of(tiny(JOINT)), 0, Neighbour())
    before = snapshot(step)
    with pytest.raises(
        NonFiniteLoss, match="The loss of 'sentiment' is not a finite number in rows of another process"
    ):
        step(0)
    assert moved(before, snapshot(step)) == set()


# -- regularizers ----------------------------------------------------------------------------------------------------


def view_of(parts: Parts, task: str) -> TaskView:
    return TaskView(parts.model, parts.tasks[task], parts.train_rows[task].pack(np.arange(12)), (0, 0, 0, task, 0))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_view_runs_a_batch_again_with_the_dropout_that_is_asked_for(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, task: str, precision: str
) -> None:
    parts = parts_of(tiny(JOINT, precision=precision))
    step_of(parts)
    view = view_of(parts, task)
    clean = view.run()
    first, second = view.run(dropout="fresh"), view.run(dropout="fresh")
    assert not torch.equal(first.logits_NC, clean.logits_NC)
    assert not torch.equal(first.logits_NC, second.logits_NC)
    assert torch.equal(view.run().logits_NC, clean.logits_NC)
    assert torch.equal(view.run(view.embeddings()).loss_N, clean.loss_N)
    assert torch.equal(view_of(parts, task).run(dropout="fresh").logits_NC, first.logits_NC)
    off = view.run(dropout="off")
    assert torch.equal(off.logits_NC, view.run(dropout="off").logits_NC)
    assert parts.model.training
    parts.model.eval()
    assert torch.equal(off.logits_NC, parts.model(task, view.batch))
    assert not torch.equal(off.logits_NC, clean.logits_NC)
    assert not torch.equal(off.logits_NC, first.logits_NC)


def test_a_pass_without_dropout_leaves_recurrent_layers_in_the_mode_that_cudnn_wants(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(JOINT) | {"encoder": {"architecture": "lstm", "width": 8, "hidden": 6, "dropout": 0.5}}
    parts = parts_of(recipe)
    step_of(parts)
    modes = []
    forward = nn.LSTM.forward

    def noted(lstm: nn.LSTM, *given: Any) -> Any:
        modes.append(lstm.training)
        return forward(lstm, *given)

    monkeypatch.setattr(nn.LSTM, "forward", noted)
    view = view_of(parts, "sentiment")
    assert torch.equal(view.run(dropout="off").logits_NC, view.run(dropout="off").logits_NC)
    assert set(modes) == {True}
    assert all(module.training for module in parts.model.modules())


def test_a_pass_in_float32_under_bfloat16(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    parts = parts_of(tiny(JOINT, precision="bfloat16"))
    step_of(parts)
    view = view_of(parts, "paraphrase")
    usual, exact = view.run(dropout="off"), view.run(dropout="off", precision="float32")
    assert not torch.equal(usual.logits_NC, exact.logits_NC)
    torch.testing.assert_close(usual.logits_NC, exact.logits_NC, rtol=0.02, atol=0.01)
    noise_PD = [words_PD + 1e-6 for words_PD in view.embeddings()]
    assert not torch.equal(view.run(noise_PD, dropout="off", precision="float32").logits_NC, exact.logits_NC)
    exact.loss_N.sum().backward()  # type: ignore[no-untyped-call]


def test_the_teacher_may_be_another_model(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    parts = parts_of(tiny(JOINT))
    teacher = copy.deepcopy(parts.model)
    with torch.no_grad():
        teacher.head("sentiment").head.get_parameter("output.bias").add_(1.0)
    view = view_of(parts, "sentiment")
    torch.testing.assert_close(view.run(model=teacher).logits_NC, view.run().logits_NC + 1.0)


def test_divergence_is_the_kinds_own(tiny: Tiny, parts_of: PartsOf) -> None:
    parts = parts_of(tiny(JOINT))
    parts.model.train()
    view = view_of(parts, "sentiment")
    a, b = view.run(), view.run(dropout="fresh")
    p_NC, q_NC = a.logits_NC.softmax(-1), b.logits_NC.softmax(-1)
    wanted_N = (p_NC * (p_NC / q_NC).log()).sum(-1) + (q_NC * (q_NC / p_NC).log()).sum(-1)
    torch.testing.assert_close(view.divergence(a, b), wanted_N, rtol=1e-3, atol=1e-6)
    assert not view.divergence(a, a).any()


def penalised(**weights: float) -> dict[str, Any]:
    return JOINT | {"regularizers": [{"name": "rdrop", "weight": weights, "alpha": 2.0}]}


def test_a_penalty_of_weight_zero_changes_nothing_and_costs_nothing(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = step_of(parts_of(tiny(JOINT)))
    idle = step_of(parts_of(tiny(penalised(sentiment=0.0))))
    passes: list[str] = []
    run = TaskView.run

    def counted(view: TaskView, *arguments: Any, **options: Any) -> TaskOutput:
        passes.append(view.task.name)
        return run(view, *arguments, **options)

    monkeypatch.setattr(TaskView, "run", counted)
    assert moved(weights_after(usual, 2), weights_after(idle, 2)) == set()
    assert passes == TASKS * 4


def test_penalties_are_weighed_for_each_task(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    def first_step(**weights: float) -> tuple[dict[str, float], dict[str, float], set[str]]:
        step = step_of(parts_of(tiny(penalised(**weights) | {"aggregator": "pcgrad"})))
        result = step(0)
        return result.losses, result.penalties, moved(plain_weights, snapshot(step))

    plain = step_of(parts_of(tiny(JOINT | {"aggregator": "pcgrad"})))
    plain_losses = plain(0).losses
    plain_weights = snapshot(plain)
    losses, single, changed = first_step(sentiment=1.0)
    _, double, _ = first_step(sentiment=2.0, similarity=1.0)
    assert losses == plain_losses  # the penalty is told apart from the loss
    assert single["sentiment"] > 0.0
    assert single["paraphrase"] == single["similarity"] == 0.0
    assert double["sentiment"] == pytest.approx(2 * single["sentiment"], rel=1e-6)
    assert double["similarity"] > 0.0
    assert {"heads.sentiment.head.output.weight", "encoders.shared.layers.0.attention.qkv.weight"} <= changed


def test_rdrop_is_the_papers_formula(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    parts = parts_of(tiny(penalised(sentiment=1.0)))
    step = step_of(parts)
    micro = parts.stages[0].plan(0)[0]
    view = TaskView(
        parts.model, parts.tasks["sentiment"], parts.train_rows["sentiment"].pack(micro.rows), (0, 0, 0, "sentiment", 0)
    )
    with torch.no_grad():
        one, two = view.run(), view.run(dropout="fresh")
        kl_N = F.kl_div(two.logits_NC.log_softmax(-1), one.logits_NC.softmax(-1), reduction="none").sum(-1)
        lk_N = F.kl_div(one.logits_NC.log_softmax(-1), two.logits_NC.softmax(-1), reduction="none").sum(-1)
        wanted = (two.loss_N + 2.0 * 0.5 * (kl_N + lk_N)).mean()
    assert step(0).penalties["sentiment"] == pytest.approx(float(wanted), rel=1e-5)


# -- derived randomness ----------------------------------------------------------------------------------------------


def test_a_step_depends_on_its_key_and_not_on_what_was_drawn_before(
    tiny: Tiny, parts_of: PartsOf, step_of: StepOf
) -> None:
    one, other = step_of(parts_of(tiny(JOINT))), step_of(parts_of(tiny(JOINT)))
    one(0)
    torch.rand(1000)
    torch.manual_seed(77)
    other(0)
    assert moved(snapshot(one), snapshot(other)) == set()


def test_another_seed_is_another_run(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    one, other = step_of(parts_of(tiny(JOINT))), step_of(parts_of(tiny(JOINT, seed=1)))
    assert one(0).losses != other(0).losses


def test_what_a_step_says_of_itself(tiny: Tiny, parts_of: PartsOf, step_of: StepOf) -> None:
    parts = parts_of(tiny(JOINT | {"schedule": {"name": "constant", "warmup": 3}}))
    result = step_of(parts)(0)
    assert list(result.losses) == TASKS
    assert result.penalties == {}
    assert result.rows == 30
    micros = parts.stages[0].plan(0)
    assert result.tokens == sum(parts.train_rows[micro.task].pack(micro.rows).tokens for micro in micros)
    assert result.learning_rate == pytest.approx(1e-3 / 4)
