"""A second copy of the weights that a stage trains: a regularizer's teacher, or the average that is evaluated.

Shapes: n numbers of a block (padding included).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polytask.model import Model

from .optim import Masters


@dataclass(frozen=True)
class _Copy:
    """Flat fp32 copies of a block's masters ``(n,)``, and of their shadows."""

    of: Masters
    flat: Tensor
    shadow: Tensor

    def parameters(self) -> dict[int, nn.Parameter]:
        """Return a frozen view for each of the block's parameters, by the identity of the parameter."""
        pairs = ((slot.parameter, slot.of(self.shadow if slot.shadowed else self.flat)) for slot in self.of.slots)
        return {id(original): nn.Parameter(view, requires_grad=False) for original, view in pairs}

    def refresh(self) -> None:
        self.shadow.copy_(self.flat[: len(self.shadow)])


class Twin:
    """A model like the one in training, its weights in buffers of their own; whatever is frozen the two share."""

    def __init__(self, model: Model, blocks: Mapping[str, Masters]) -> None:
        self._copies = {n: _Copy(held, held.flat.clone(), held.shadow.clone()) for n, held in blocks.items()}
        # To deepcopy, what the memo holds has been copied already: frozen parameters stand for themselves.
        memo: dict[int, object] = {id(parameter): parameter for parameter in model.parameters()}
        for held in self._copies.values():
            memo.update(held.parameters())
        self.model: Model = copy.deepcopy(model, memo)

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Go ``share`` of the way towards the weights in training."""
        for held in self._copies.values():
            held.flat.lerp_(held.of.flat, share)
            held.refresh()

    @torch.no_grad()
    def take_over(self) -> None:
        """Make these weights those in training."""
        for held in self._copies.values():
            held.of.flat.copy_(held.flat)
            held.of.refresh()

    def tensors(self) -> dict[str, Tensor]:
        """Return the fp32 weights by name, views of the flat buffers; without those that are shared."""
        return {slot.name: slot.of(held.flat) for held in self._copies.values() for slot in held.of.slots}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the flat fp32 weights of each block."""
        return {name: held.flat for name, held in self._copies.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy weights in."""
        for name, held in self._copies.items():
            held.flat.copy_(state[name])
            held.refresh()


class InTraining:
    """The weights in training as a checkpoint's state, where what the checkpoint calls its weights is their average.

    An average that is resumed starts from those: that is where it was.
    """

    def __init__(self, blocks: Mapping[str, Masters]) -> None:
        self._blocks = blocks

    def state_dict(self) -> dict[str, Tensor]:
        """Return the flat fp32 masters of each block."""
        return {name: masters.flat for name, masters in self._blocks.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy masters in."""
        for name, masters in self._blocks.items():
            masters.flat.copy_(state[name])
            masters.refresh()
