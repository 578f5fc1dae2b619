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
from torch import Tensor, nn

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
from .optim import Block, Masters
from .plan import Micro
from .stages import Stage, layer_rule, trained_parameters
from .twin import InTraining, Twin


@dataclass(frozen=True)
class _Work:
    """What a step's backward passes add into: gradients of trunks ``(T or 1, n)`` and heads ``(n,)``, losses, penalties.

    ``weights``: what each task's loss is multiplied by before its backward pass.
    """

    active: list[str]
    weights: dict[str, float]
    trunks: dict[str, Tensor]
    heads: dict[str, Tensor]
    losses_T: Tensor
    penalties_T: Tensor
    seen: list[tuple[str, tuple[int, ...], Tensor]]

    def tensors(self) -> list[Tensor]:
        return [*self.trunks.values(), *self.heads.values(), self.losses_T, self.penalties_T]


class Stateful(Protocol):
    """Whatever a checkpoint holds the state of."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor], /) -> None: ...


class Step:
    """Takes the steps of one stage. Holds the stage's optimizer: a flat block for each encoder and each head."""

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
        self.encoder_blocks: dict[str, Block] = {}
        self.frozen: list[Masters] = []
        for name in model.encoders:
            self._take_encoder(name, dtype)
        self.head_blocks = {task: self._head_block(task) for task in stage.tasks}
        for task in model.heads:
            if task not in stage.tasks:
                self._freeze(_named(f"heads.{task}.", model.heads[task]), set(), torch.float32)
        self.aggregators = {name: copy.deepcopy(stage.aggregator) for name in self.encoder_blocks}
        self.conflicts = Conflicts()
        self._buffers: dict[str, Tensor] = {}
        self._room = MicroBatchLimit(stage.plan.whole)
        model.train()
        self.average = self._twin() if stage.average is not None else None
        for penalty in stage.penalties:
            penalty.regularizer.begin(self._twin, stage.steps)

    def __call__(self, step: int) -> StepResult:
        """Take a step. Raises NonFiniteLoss, before any weight has moved, naming the task and the rows."""
        before = self._room.rows
        micros, work = self._accumulated(step)
        self.processes.add_up(*work.tensors())
        owed = self._weigh_heads(work)
        gramians = {name: gramian(work.trunks[name]) for name in work.trunks if self._apart(name, work.active)}
        layers = self._layer_cosines(work) if self.stage.diagnose else {}
        combined = {name: self._combine(name, work, owed, gramians, step) for name in work.trunks}
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
        if self.average is not None and self.stage.average is not None:
            self.average.follow(self.stage.average.share(step))
        rate = self.stage.rule.learning_rate * self.stage.schedule(step)
        rows, tokens = sum(len(micro.rows) for micro in micros), self.stage.plan.tokens([step])
        shrunk_to = None if self._room.rows == before else self._room.rows
        penalties = penalties if self.stage.penalties else {}
        weights = {task: work.weights[task] * owed[task] for task in work.active} if self.stage.balance.adapts else {}
        return StepResult(losses, penalties, norm_read, rate, rows, tokens, shrunk_to, angles, layers, weights)

    @property
    def judged(self) -> Model:
        """The model that is evaluated and handed on: with the average of the weights, where the stage asks for it."""
        return self.model if self.average is None else self.average.model

    def weights(self) -> dict[str, Tensor]:
        """Return every parameter of the judged model in fp32, by name."""
        masters = [*self.frozen, *self._blocks().values()]
        held = {name: tensor for master in masters for name, tensor in master.tensors().items()}
        return held if self.average is None else held | self.average.tensors()

    def state_dict(self) -> dict[str, Tensor]:
        """Return what, with the weights, a resumed stage needs: moments, balance, aggregator and regularizers."""
        return {f"{part}.{name}": t for part, held in self._stateful() for name, t in held.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up a saved state."""
        for part, held in self._stateful():
            own = {name.removeprefix(f"{part}."): t for name, t in state.items() if name.startswith(f"{part}.")}
            held.load_state_dict(own)

    def release(self) -> None:
        """Give the model its fp32 parameters back at the stage's end: the average of them, if that was judged."""
        for penalty in self.stage.penalties:
            penalty.regularizer.end()
        if self.average is not None:
            self.average.take_over()
        for block in (*self.encoder_blocks.values(), *self.head_blocks.values()):
            block.release()
        for masters in self.frozen:
            masters.release()
        self.model.requires_grad_(True)

    # -- building ------------------------------------------------------------------------------------------------

    def _take_encoder(self, name: str, dtype: torch.dtype) -> None:
        encoder = self.model.encoders[name]
        assert isinstance(encoder, Encoder)
        encoder.compute = dtype
        shadowed = set(encoder.shadowed())
        trained = trained_parameters(self.model, self.stage, name)
        chosen = {parameter for _, parameter in trained}
        rest = [(f"encoders.{name}.{p}", v) for p, v in encoder.named_parameters() if v not in chosen]
        self._freeze(rest, shadowed, dtype)
        if trained:
            self.encoder_blocks[name] = Block(
                encoder,
                f"encoders.{name}.",
                trained,
                shadowed=shadowed,
                dtype=dtype,
                rule=lambda whole, _: layer_rule(
                    self.stage.encoder_rules.get(name, self.stage.rule),
                    self.stage.layer_decay,
                    encoder,
                    whole.removeprefix(f"encoders.{name}."),
                ),
                adam=self.stage.adam,
            )

    def _head_block(self, task: str) -> Block:
        head = self.model.heads[task]
        return Block(
            head,
            f"heads.{task}.",
            list(head.named_parameters()),
            shadowed=set(),
            dtype=torch.float32,
            rule=lambda name, parameter: self.stage.head_rules[task],
            adam=self.stage.adam,
        )

    def _freeze(
        self, parameters: Sequence[tuple[str, nn.Parameter]], shadowed: set[nn.Parameter], dtype: torch.dtype
    ) -> None:
        for _, parameter in parameters:
            parameter.requires_grad_(False)
        self.frozen.append(Masters(parameters, shadowed=shadowed, dtype=dtype))

    def _blocks(self) -> dict[str, Masters]:
        encoders = {f"encoder.{name}": block.masters for name, block in self.encoder_blocks.items()}
        return encoders | {f"head.{task}": block.masters for task, block in self.head_blocks.items()}

    def _twin(self) -> Twin:
        return Twin(self.model, self._blocks())

    def _stateful(self) -> list[tuple[str, Stateful]]:
        return [
            *([("training", InTraining(self._blocks()))] if self.average is not None else []),
            *((f"encoder.{name}", block) for name, block in self.encoder_blocks.items()),
            *((f"head.{task}", block) for task, block in self.head_blocks.items()),
            ("balance", self.stage.balance),
            *((f"aggregator.{name}", aggregator) for name, aggregator in self.aggregators.items()),
            ("conflicts", self.conflicts),
            *((f"regularizer.{n}", penalty.regularizer) for n, penalty in enumerate(self.stage.penalties)),
            ("memory", self._room),
        ]

    # -- one step ------------------------------------------------------------------------------------------------

    def _accumulated(self, step: int) -> tuple[tuple[Micro, ...], _Work]:
        """Run the step's backward passes; if memory does not hold a micro-batch, all of them again with smaller ones."""
        while True:
            micros = self.stage.plan(step, self._room.rows, self.processes.size)
            work = self._zeroed(list(dict.fromkeys(micro.task for micro in micros)))
            if not self.processes.any(not self._fits(step, micros, work)):
                return micros, work
            self._room.halve(micros, f"stage {self.stage.number + 1}, step {step + 1}")

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
        trunks = {}
        for name, block in self.encoder_blocks.items():
            users = self._users(name, active)
            if users:
                buffers = len(users) if self._apart(name, active) else 1
                trunks[name] = self._buffer(f"encoder {name}", buffers, block.numbers)
        heads = {task: self._buffer(f"head {task}", 1, self.head_blocks[task].numbers)[0] for task in active}
        losses_T, penalties_T = torch.zeros(2, len(active), device=self.device)
        return _Work(active, self._weights_before(active), trunks, heads, losses_T, penalties_T, [])

    def _apart(self, encoder: str, active: Sequence[str]) -> bool:
        """Say whether each task's gradient of an encoder is kept in a buffer of its own; one task has nothing to combine."""
        stage, users = self.stage, len(self._users(encoder, active))
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
        self.head_blocks[task].point(work.heads[task])
        name = self.model.encoder_of[task]
        if name in work.trunks:
            buffers = work.trunks[name]
            place = 0 if len(buffers) == 1 else self._users(name, work.active).index(task)
            self.encoder_blocks[name].point(buffers[place])

    def _users(self, encoder: str, tasks: Sequence[str]) -> list[str]:
        return [task for task in tasks if self.model.encoder_of[task] == encoder]

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
        aggregator, buffers = self.aggregators[encoder], work.trunks[encoder]
        users = self._users(encoder, work.active)
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
            found |= cosines(gramian_TT, self._users(name, work.active))
        return found

    def _layer_cosines(self, work: _Work) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for name, buffers in work.trunks.items():
            if not self._apart(name, work.active):
                continue
            encoder, prefix = self.model.encoders[name], f"encoders.{name}."
            assert isinstance(encoder, Encoder)
            layers = {s: encoder.layer_of(s.name.removeprefix(prefix)) for s in self.encoder_blocks[name].masters.slots}
            for layer, gramian_TT in gramian_by_layer(buffers, layers).items():
                angles = cosines(gramian_TT, self._users(name, work.active))
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
        for name, gradient in combined.items():
            self.encoder_blocks[name].update(gradient, factor, shrink[name])
        for task, gradient in heads.items():
            self.head_blocks[task].update(gradient, factor, shrink[self.model.encoder_of[task]])

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


def _named(prefix: str, module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(f"{prefix}{name}", parameter) for name, parameter in module.named_parameters()]
