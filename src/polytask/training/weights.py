"""A model's weights while a stage has them: flat blocks of what it trains, fp32 masters of what it leaves alone.

Shapes: n numbers of a block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from polytask.encoder.base import Encoder
from polytask.model import Model

from .optim import Block, Masters, Rule
from .stages import Stage, layer_rule, trained_parameters
from .twin import InTraining, Twin


class StageWeights:
    """Takes a model's parameters over for a stage, and gives them back at its end (``release``).

    ``encoders`` and ``heads`` are the blocks that the stage trains, by the name of the encoder or the task: an encoder
    that it leaves alone has none. ``average`` is the moving average of all of them, where the stage asks for one.
    """

    def __init__(self, model: Model, stage: Stage, dtype: torch.dtype) -> None:
        self.model, self.stage = model, stage
        self.encoders: dict[str, Block] = {}
        self._frozen: list[Masters] = []
        for name in model.encoders:
            self._take_encoder(name, dtype)
        self.heads = {task: self._head_block(task) for task in stage.tasks}
        for task, head in model.heads.items():
            if task not in stage.tasks:
                self._freeze([(f"heads.{task}.{name}", p) for name, p in head.named_parameters()], set(), torch.float32)
        self.average = self.twin() if stage.average is not None else None

    def users(self, encoder: str, tasks: Sequence[str]) -> list[str]:
        """Return those of ``tasks`` that an encoder serves."""
        return [task for task in tasks if self.model.encoder_of[task] == encoder]

    def update(
        self,
        encoders: Mapping[str, Tensor],
        heads: Mapping[str, Tensor],
        factor: float,
        shrink: Mapping[str, Tensor | None],
    ) -> None:
        """Take an optimizer's step with gradients ``(n,)`` of encoders and heads.

        ``factor`` is the schedule's; a gradient is divided by what ``shrink`` has for its encoder, a head's too.
        """
        for name, gradient in encoders.items():
            self.encoders[name].update(gradient, factor, shrink[name])
        for task, gradient in heads.items():
            self.heads[task].update(gradient, factor, shrink[self.model.encoder_of[task]])

    def follow(self, step: int) -> None:
        """Let the average, if there is one, take in the weights after a step."""
        if self.average is not None and self.stage.average is not None:
            self.average.follow(self.stage.average.share(step))

    @property
    def evaluated(self) -> Model:
        """The model that is evaluated and handed on: with the average of the weights, where the stage asks for it."""
        return self.model if self.average is None else self.average.model

    def tensors(self) -> dict[str, Tensor]:
        """Return every parameter of the evaluated model in fp32, by name."""
        masters = [*self._frozen, *self.blocks().values()]
        held = {name: tensor for master in masters for name, tensor in master.tensors().items()}
        return held if self.average is None else held | self.average.tensors()

    def twin(self) -> Twin:
        """Return a copy of the model as it stands, which can be evaluated beside it."""
        return Twin(self.model, self.blocks())

    def stateful(self) -> list[tuple[str, InTraining | Block]]:
        """Return what a checkpoint holds beside the evaluated weights: optimizers' moments, weights that are averaged."""
        return [
            *([("training", InTraining(self.blocks()))] if self.average is not None else []),
            *((f"encoder.{name}", block) for name, block in self.encoders.items()),
            *((f"head.{task}", block) for task, block in self.heads.items()),
        ]

    def release(self) -> None:
        """Give the model its fp32 parameters back: the average of them, if that was evaluated."""
        if self.average is not None:
            self.average.take_over()
        for block in (*self.encoders.values(), *self.heads.values()):
            block.release()
        for masters in self._frozen:
            masters.release()
        self.model.requires_grad_(True)

    def _take_encoder(self, name: str, dtype: torch.dtype) -> None:
        encoder, stage, prefix = self.model.encoders[name], self.stage, f"encoders.{name}."
        assert isinstance(encoder, Encoder)
        encoder.compute = dtype
        shadowed = set(encoder.shadowed())
        trained = trained_parameters(self.model, stage, name)
        chosen = {parameter for _, parameter in trained}
        rest = [(f"{prefix}{name}", p) for name, p in encoder.named_parameters() if p not in chosen]
        self._freeze(rest, shadowed, dtype)
        if not trained:
            return

        def rule(parameter: str, _: nn.Parameter) -> Rule:
            top = stage.encoder_rules.get(name, stage.rule)
            return layer_rule(top, stage.layer_decay, encoder, parameter.removeprefix(prefix))

        self.encoders[name] = Block(
            encoder, prefix, trained, shadowed=shadowed, dtype=dtype, rule=rule, adam=stage.adam
        )

    def _head_block(self, task: str) -> Block:
        # Heads compute in fp32: they are small, and losses are told straight from what they say.
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
        self._frozen.append(Masters(parameters, shadowed=shadowed, dtype=dtype))

    def blocks(self) -> dict[str, Masters]:
        """Return the fp32 masters of what is trained, by the block's name in checkpoints."""
        encoders = {f"encoder.{name}": block.masters for name, block in self.encoders.items()}
        return encoders | {f"head.{task}": block.masters for task, block in self.heads.items()}
