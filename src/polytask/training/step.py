"""One step: plan, backward passes into flat buffers, one combined gradient, one update.

Shapes: T tasks with rows in the step, n numbers of a block, N rows of a micro-batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from polytask.aggregators.base import GramianAggregator
from polytask.data.rows import TaskRows
from polytask.encoder.base import Encoder
from polytask.errors import NonFiniteLoss, first_ten, listed
from polytask.model import Model, TaskView
from polytask.run.events import StepResult
from polytask.runtime.device import is_out_of_memory
from polytask.runtime.keys import torch_generator
from polytask.runtime.processes import Processes
from polytask.tasks.task import Task

from .gradients import Conflicts, added_up, cosines, gramian, gramian_by_layer
from .memory import MicroBatchLimit
from .plan import Micro
from .stages import Stage
from .weights import StageWeights


@dataclass(frozen=True)
class _Work:
    """What a step's backward passes add into: gradients of encoders ``(T or 1, n)`` and heads ``(n,)``, losses, penalties.

    ``weights``: what each task's loss is multiplied by before its backward pass.
    """

    active: list[str]
    weights: dict[str, float]
    encoders: dict[str, Tensor]
    heads: dict[str, Tensor]
    losses_T: Tensor
    penalties_T: Tensor
    seen: list[tuple[str, tuple[int, ...], Tensor]]

    def tensors(self) -> list[Tensor]:
        return [*self.encoders.values(), *self.heads.values(), self.losses_T, self.penalties_T]


class Stateful(Protocol):
    """Whatever a checkpoint holds the state of."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor], /) -> None: ...


class Step:
    """Takes the steps of one stage. ``weights`` holds the model's parameters and the optimizer meanwhile."""

    def __init__(
        self,
        model: Model,
        tasks: Mapping[str, Task],
        rows: Mapping[str, TaskRows],
        stage: Stage,
        *,
        seed: int,
        dtype: torch.dtype,
        processes: Processes | None = None,
    ) -> None:
        self.model, self.tasks, self.rows, self.stage, self.seed = model, tasks, rows, stage, seed
        self.processes = processes or Processes()
        self.device = next(model.parameters()).device
        self.weights = StageWeights(model, stage, dtype)
        # An aggregator may remember what it saw: each encoder's sees its own tasks.
        self.aggregators = {name: copy.deepcopy(stage.aggregator) for name in self.weights.encoders}
        self.conflicts = Conflicts()
        self._buffers: dict[str, Tensor] = {}
        self._limit = MicroBatchLimit(stage.plan.whole)
        model.train()
        for penalty in stage.penalties:
            penalty.regularizer.begin(self.weights.twin, stage.steps)

    def __call__(self, step: int) -> StepResult:
        """Take a step. Raises NonFiniteLoss, before any weight has moved, naming the task and the rows."""
        before = self._limit.rows
        micros, work = self._accumulated(step)
        self.processes.add_up(*work.tensors())
        owed = self._weigh_heads(work)
        gramians = {name: gramian(work.encoders[name]) for name in work.encoders if self._apart(name, work.active)}
        layers = self._layer_cosines(work) if self.stage.diagnose else {}
        combined = {name: self._combine(name, work, owed, gramians, step) for name in work.encoders}
        norms = {name: _norm(group) for name, group in self._groups(combined, work.heads).items()}
        norm = _norm(list(norms.values()))
        *means, norm_read = torch.cat([work.losses_T, work.penalties_T, norm[None]]).tolist()
        if not all(math.isfinite(number) for number in (*means, norm_read)):
            raise NonFiniteLoss(self._blame(step, work))
        angles = self._cosines(work, gramians)
        self.conflicts.count(angles)
        self._update(step, combined, work.heads, norms)
        losses = dict(zip(work.active, means, strict=False))
        penalties = dict(zip(work.active, means[len(work.active) :], strict=True))
        self._observe(step, micros, losses, penalties)
        for penalty in self.stage.penalties:
            penalty.regularizer.after_step(self.model)
        self.weights.follow(step)
        rate = self.stage.rule.learning_rate * self.stage.schedule(step)
        rows, tokens = sum(len(micro.rows) for micro in micros), self.stage.plan.tokens([step])
        shrunk_to = None if self._limit.rows == before else self._limit.rows
        penalties = penalties if self.stage.penalties else {}
        weights = {task: work.weights[task] * owed[task] for task in work.active} if self.stage.balance.adapts else {}
        return StepResult(losses, penalties, norm_read, rate, rows, tokens, shrunk_to, angles, layers, weights)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what, with the weights, a resumed stage needs: moments, balance, aggregator and regularizers."""
        return {f"{part}.{name}": t for part, held in self._stateful() for name, t in held.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up a saved state."""
        for part, held in self._stateful():
            own = {name.removeprefix(f"{part}."): t for name, t in state.items() if name.startswith(f"{part}.")}
            held.load_state_dict(own)

    def release(self) -> None:
        """Give the model its fp32 parameters back at the stage's end: the average of them, if that was evaluated."""
        for penalty in self.stage.penalties:
            penalty.regularizer.end()
        self.weights.release()

    def _stateful(self) -> list[tuple[str, Stateful]]:
        return [
            *self.weights.stateful(),
            ("balance", self.stage.balance),
            *((f"aggregator.{name}", aggregator) for name, aggregator in self.aggregators.items()),
            ("conflicts", self.conflicts),
            *((f"regularizer.{n}", penalty.regularizer) for n, penalty in enumerate(self.stage.penalties)),
            ("memory", self._limit),
        ]

    # -- one step ------------------------------------------------------------------------------------------------

    def _accumulated(self, step: int) -> tuple[tuple[Micro, ...], _Work]:
        """Run the step's backward passes; if memory does not hold a micro-batch, all of them again with smaller ones."""
        while True:
            micros = self.stage.plan(step, self._limit.rows, self.processes.size)
            work = self._zeroed(list(dict.fromkeys(micro.task for micro in micros)))
            if not self.processes.any(not self._fits(step, micros, work)):
                return micros, work
            self._limit.halve(micros, f"stage {self.stage.number + 1}, step {step + 1}")

    def _fits(self, step: int, micros: Sequence[Micro], work: _Work) -> bool:
        try:
            for micro in micros[self.processes.rank :: self.processes.size]:
                self._backward(step, micro, work)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def _zeroed(self, active: list[str]) -> _Work:
        encoders = {}
        for name, block in self.weights.encoders.items():
            users = self.weights.users(name, active)
            if users:
                buffers = len(users) if self._apart(name, active) else 1
                encoders[name] = self._buffer(f"encoder {name}", buffers, block.numbers)
        heads = {task: self._buffer(f"head {task}", 1, self.weights.heads[task].numbers)[0] for task in active}
        losses_T, penalties_T = torch.zeros(2, len(active), device=self.device)
        return _Work(active, self._weights_before(active), encoders, heads, losses_T, penalties_T, [])

    def _apart(self, encoder: str, active: Sequence[str]) -> bool:
        """Say whether each task's gradient of an encoder is kept in a buffer of its own; one task has nothing to combine."""
        stage, users = self.stage, len(self.weights.users(encoder, active))
        constant = self.aggregators[encoder].constant(users)
        return users > 1 and (constant is None or stage.balance.uses_losses or stage.diagnose)

    def _weights_before(self, active: Sequence[str]) -> dict[str, float]:
        if self.stage.balance.uses_losses:
            return dict.fromkeys(active, 1.0)
        weights = dict(zip(self.stage.tasks, self.stage.balance.weights(None).tolist(), strict=True))
        return {task: weights[task] for task in active}

    def _buffer(self, name: str, tasks: int, numbers: int) -> Tensor:
        held = self._buffers.get(name)
        if held is None or len(held) < tasks:
            held = self._buffers[name] = torch.zeros(tasks, numbers, device=self.device)
        return held[:tasks].zero_()

    def _backward(self, step: int, micro: Micro, work: _Work) -> None:
        self._point(micro.task, work)
        view = self._view(step, micro)
        clean = view.run()
        penalty_N = torch.zeros_like(clean.loss_N)
        for penalty in self.stage.penalties:
            if penalty.weights.get(micro.task):
                own = replace(view)  # it counts fresh draws: one regularizer's must not shift another's
                penalty_N = penalty_N + penalty.weights[micro.task] * penalty.regularizer.penalty(own, clean)
        weight = work.weights[micro.task]
        (weight / micro.of_rows * (clean.loss_N + penalty_N).sum()).backward()  # type: ignore[no-untyped-call]
        place = work.active.index(micro.task)
        work.losses_T[place] += clean.loss_N.detach().sum() / micro.of_rows
        work.penalties_T[place] += penalty_N.detach().sum() / micro.of_rows
        work.seen.append((micro.task, view.batch.rows, clean.loss_N.detach()))

    def _view(self, step: int, micro: Micro) -> TaskView:
        key = (self.seed, self.stage.number, step, micro.task)
        batch = self.rows[micro.task].pack(micro.rows, key).to(self.device)  # however it is split: the same masks
        return TaskView(self.model, self.tasks[micro.task], batch, (*key, micro.index))

    def _point(self, task: str, work: _Work) -> None:
        self.weights.heads[task].point(work.heads[task])
        name = self.model.encoder_of[task]
        if name in work.encoders:
            buffers = work.encoders[name]
            place = 0 if len(buffers) == 1 else self.weights.users(name, work.active).index(task)
            self.weights.encoders[name].point(buffers[place])

    def _weigh_heads(self, work: _Work) -> dict[str, float]:
        """Return the weight that each task's gradients are still owed, its head's having got it."""
        balance = self.stage.balance
        if not balance.uses_losses:
            return dict.fromkeys(work.active, 1.0)
        losses_T = self._of_stage(dict(zip(work.active, work.losses_T.tolist(), strict=True)))
        weights = dict(zip(self.stage.tasks, balance.weights(losses_T).tolist(), strict=True))
        for task, gradient in work.heads.items():
            gradient.mul_(weights[task])
        return weights

    def _combine(
        self, encoder: str, work: _Work, owed: Mapping[str, float], gramians: Mapping[str, Tensor], step: int
    ) -> Tensor:
        aggregator, buffers = self.aggregators[encoder], work.encoders[encoder]
        users = self.weights.users(encoder, work.active)
        if encoder not in gramians:
            weight = owed[users[0]] if len(users) == 1 else aggregator.constant(len(users))
            assert weight is not None
            return buffers[0] if weight == 1.0 else buffers[0].mul_(weight)
        owed_T = torch.tensor([owed[task] for task in users], dtype=torch.float64)
        gramian_TT = gramians[encoder] * owed_T * owed_T[:, None]
        if not gramian_TT.isfinite().all():
            return torch.full_like(buffers[0], math.nan)  # no method can weigh it; whoever reads the norm will tell
        generator = torch_generator(self.seed, self.stage.number, step, "aggregator")
        if isinstance(aggregator, GramianAggregator):
            return added_up(buffers, owed_T * aggregator.weights(gramian_TT, generator))
        return aggregator.combine(buffers.mul_(owed_T.to(buffers)[:, None]), generator)

    def _cosines(self, work: _Work, gramians: Mapping[str, Tensor]) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, gramian_TT in gramians.items():
            found |= cosines(gramian_TT, self.weights.users(name, work.active))
        return found

    def _layer_cosines(self, work: _Work) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for name, buffers in work.encoders.items():
            if not self._apart(name, work.active):
                continue
            encoder, prefix = self.model.encoders[name], f"encoders.{name}."
            assert isinstance(encoder, Encoder)
            layers = {
                s: encoder.layer_of(s.name.removeprefix(prefix)) for s in self.weights.encoders[name].masters.slots
            }
            for layer, gramian_TT in gramian_by_layer(buffers, layers).items():
                angles = cosines(gramian_TT, self.weights.users(name, work.active))
                found[str(layer)] = found.get(str(layer), {}) | angles
        return found

    def _observe(
        self, step: int, micros: Sequence[Micro], losses: Mapping[str, float], penalties: Mapping[str, float]
    ) -> None:
        """Tell the balance what the step has minimised, or, if it looks again, the losses before and after."""
        balance = self.stage.balance
        if balance.looks_again:
            after = self._losses_again(step, micros, list(losses))
            balance.observe(self._of_stage(losses), self._of_stage(after))
        else:
            balance.observe(self._of_stage({task: loss + penalties[task] for task, loss in losses.items()}), None)

    def _losses_again(self, step: int, micros: Sequence[Micro], active: Sequence[str]) -> dict[str, float]:
        """Return the losses of a step's rows, under the same dropout, on the weights as they are now."""
        losses_T = torch.zeros(len(active), device=self.device)
        with torch.no_grad():
            for micro in micros[self.processes.rank :: self.processes.size]:
                losses_T[active.index(micro.task)] += self._view(step, micro).run().loss_N.sum() / micro.of_rows
        self.processes.add_up(losses_T)
        return dict(zip(active, losses_T.tolist(), strict=True))

    def _of_stage(self, losses: Mapping[str, float]) -> Tensor:
        return torch.tensor([losses.get(task, math.nan) for task in self.stage.tasks])

    def _groups(self, combined: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Return the gradients of each encoder and its tasks' heads: what is clipped together."""
        groups = {name: [gradient] for name, gradient in combined.items()}
        for task, gradient in heads.items():
            groups.setdefault(self.model.encoder_of[task], []).append(gradient)
        return groups

    def _update(
        self,
        step: int,
        combined: Mapping[str, Tensor],
        heads: Mapping[str, Tensor],
        norms: Mapping[str, Tensor],
    ) -> None:
        clip, factor = self.stage.clip, self.stage.schedule(step)
        shrink = {name: None if clip is None else (norm / clip).clamp_min(1.0)[None] for name, norm in norms.items()}
        self.weights.update(combined, heads, factor, shrink)

    def _blame(self, step: int, work: _Work) -> str:
        where = f"stage {self.stage.number + 1}, step {step + 1}"
        rows = [
            f"task '{task}': {self.rows[task].ids[row]}"
            for task, numbers, loss_N in work.seen
            for row, loss in zip(numbers, loss_N.tolist(), strict=True)
            if not math.isfinite(loss)
        ]
        if rows:
            return f"The loss of these rows is not a finite number ({where}):\n{first_ten(rows)}"
        elsewhere = [t for t, loss in zip(work.active, work.losses_T.tolist(), strict=True) if not math.isfinite(loss)]
        if elsewhere:
            return f"The loss of {listed(elsewhere)} is not a finite number in rows of another process ({where})."
        rows = [f"task '{t}': {', '.join(self.rows[t].ids[row] for row in numbers)}" for t, numbers, _ in work.seen]
        return f"The gradient is not finite, though each row's loss is ({where}):\n{first_ten(rows)}"


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    return norm
