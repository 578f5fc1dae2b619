"""One step: plan, backward passes into flat buffers, one combined gradient, one update.

Shapes: T tasks with rows in the step, n numbers of a block, N rows of a micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from polytask.data.rows import TaskRows
from polytask.encoder.base import Encoder
from polytask.errors import NonFiniteLoss, first_ten, listed
from polytask.model import Model, TaskView
from polytask.runtime.keys import torch_generator
from polytask.runtime.processes import Processes
from polytask.tasks.task import Task

from .optim import Block, Masters
from .plan import Micro
from .stages import Stage, layer_rule, trained_parameters
from .twin import InTraining, Twin

_COLUMNS = 1 << 20  # of a Gramian at once: a few MiB a task, added up in float64


@dataclass(frozen=True)
class StepResult:
    """What a step did: mean loss and penalty of each of its tasks, gradient norm before clipping, rows and tokens."""

    losses: dict[str, float]
    penalties: dict[str, float]
    norm: float
    learning_rate: float
    rows: int
    tokens: int


@dataclass(frozen=True)
class _Work:
    """What a step's backward passes add into: gradients of trunks ``(T or 1, n)`` and heads ``(n,)``, losses, penalties."""

    active: list[str]
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
        self._buffers: dict[str, Tensor] = {}
        model.train()
        self.average = self._twin() if stage.average is not None else None
        for penalty in stage.penalties:
            penalty.regularizer.begin(self._twin, stage.steps)

    def __call__(self, step: int) -> StepResult:
        """Take a step. Raises NonFiniteLoss, before any weight has moved, naming the task and the rows."""
        micros = self.stage.plan(step)
        work = self._zeroed(list(dict.fromkeys(micro.task for micro in micros)))
        for micro in micros[self.processes.rank :: self.processes.size]:
            self._backward(step, micro, work)
        self.processes.add_up(*work.tensors())
        combined = {name: self._combine(name, work, step) for name in work.trunks}
        norm = _norm([*combined.values(), *work.heads.values()])
        *means, norm_read = torch.cat([work.losses_T, work.penalties_T, norm[None]]).tolist()
        if not all(math.isfinite(number) for number in (*means, norm_read)):
            raise NonFiniteLoss(self._blame(step, work))
        self._update(step, combined, work.heads, norm)
        losses = dict(zip(work.active, means, strict=False))
        self.stage.balance.observe(torch.tensor([losses.get(task, math.nan) for task in self.stage.tasks]))
        for penalty in self.stage.penalties:
            penalty.regularizer.after_step(self.model)
        if self.average is not None and self.stage.average is not None:
            self.average.follow(self.stage.average.share(step))
        penalised = zip(work.active, means[len(work.active) :], strict=True) if self.stage.penalties else ()
        rate = self.stage.rule.learning_rate * self.stage.schedule(step)
        rows, tokens = sum(len(micro.rows) for micro in micros), self.stage.plan.tokens([step])
        return StepResult(losses, dict(penalised), norm_read, rate, rows, tokens)

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
                    self.stage.rule, self.stage.layer_decay, encoder, whole.removeprefix(f"encoders.{name}.")
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
            ("aggregator", self.stage.aggregator),
            *((f"regularizer.{n}", penalty.regularizer) for n, penalty in enumerate(self.stage.penalties)),
        ]

    # -- one step ------------------------------------------------------------------------------------------------

    def _zeroed(self, active: list[str]) -> _Work:
        trunks = {}
        for name, block in self.encoder_blocks.items():
            users = self._users(name, active)
            if users:
                shared = self.stage.aggregator.constant(len(users)) is not None
                trunks[name] = self._buffer(f"encoder {name}", 1 if shared else len(users), block.numbers)
        heads = {task: self._buffer(f"head {task}", 1, self.head_blocks[task].numbers)[0] for task in active}
        losses_T, penalties_T = torch.zeros(2, len(active), device=self.device)
        return _Work(active, trunks, heads, losses_T, penalties_T, [])

    def _buffer(self, name: str, tasks: int, numbers: int) -> Tensor:
        held = self._buffers.get(name)
        if held is None or len(held) < tasks:
            held = self._buffers[name] = torch.zeros(tasks, numbers, device=self.device)
        return held[:tasks].zero_()

    def _backward(self, step: int, micro: Micro, work: _Work) -> None:
        batch = self.rows[micro.task].pack(micro.rows).to(self.device)
        self._point(micro.task, work)
        key = (self.seed, self.stage.number, step, micro.task, micro.index)
        clean = TaskView(self.model, self.tasks[micro.task], batch, key).run()
        penalty_N = torch.zeros_like(clean.loss_N)
        for penalty in self.stage.penalties:
            if penalty.weights.get(micro.task):
                view = TaskView(self.model, self.tasks[micro.task], batch, key)  # its own: it counts fresh draws
                penalty_N = penalty_N + penalty.weights[micro.task] * penalty.regularizer.penalty(view, clean)
        weight = float(self.stage.balance.weights()[self.stage.tasks.index(micro.task)])
        (weight / micro.of_rows * (clean.loss_N + penalty_N).sum()).backward()  # type: ignore[no-untyped-call]
        place = work.active.index(micro.task)
        work.losses_T[place] += clean.loss_N.detach().sum() / micro.of_rows
        work.penalties_T[place] += penalty_N.detach().sum() / micro.of_rows
        work.seen.append((micro.task, batch.rows, clean.loss_N.detach()))

    def _point(self, task: str, work: _Work) -> None:
        self.head_blocks[task].point(work.heads[task])
        name = self.model.encoder_of[task]
        if name in work.trunks:
            buffers = work.trunks[name]
            place = 0 if len(buffers) == 1 else self._users(name, work.active).index(task)
            self.encoder_blocks[name].point(buffers[place])

    def _users(self, encoder: str, tasks: Sequence[str]) -> list[str]:
        return [task for task in tasks if self.model.encoder_of[task] == encoder]

    def _combine(self, encoder: str, work: _Work, step: int) -> Tensor:
        aggregator, buffers = self.stage.aggregator, work.trunks[encoder]
        constant = aggregator.constant(len(self._users(encoder, work.active)))
        if constant is not None:
            return buffers[0] if constant == 1.0 else buffers[0].mul_(constant)
        generator = torch_generator(self.seed, self.stage.number, step, "aggregator")
        weights_T = aggregator.weights(gramian(buffers), generator).to(buffers)
        return torch.mv(buffers.t(), weights_T)

    def _update(self, step: int, combined: Mapping[str, Tensor], heads: Mapping[str, Tensor], norm: Tensor) -> None:
        shrink = None if self.stage.clip is None else (norm / self.stage.clip).clamp_min(1.0)[None]
        factor = self.stage.schedule(step)
        for name, gradient in combined.items():
            self.encoder_blocks[name].update(gradient, factor, shrink)
        for task, gradient in heads.items():
            self.head_blocks[task].update(gradient, factor, shrink)

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


def gramian(gradients_Tn: Tensor) -> Tensor:
    """Return the inner products ``(T, T)`` of gradients, float64 on the CPU."""
    total_TT = torch.zeros(len(gradients_Tn), len(gradients_Tn), dtype=torch.float64, device=gradients_Tn.device)
    for part_Tn in torch.split(gradients_Tn, _COLUMNS, dim=1):
        total_TT += (part_Tn @ part_Tn.t()).double()
    return total_TT.cpu()


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    return norm


def _named(prefix: str, module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(f"{prefix}{name}", parameter) for name, parameter in module.named_parameters()]
