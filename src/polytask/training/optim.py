"""Flat fp32 masters, gradients and moments, with low-precision shadows of the weights beside them.

A block is the unit that is trained or left alone in a step: the encoder, or one task's head. Its parameters become
views of flat buffers, so that a step is one zeroing, one norm, one fused update and one cast, whatever their number.

Shapes: n numbers in all (padding included), p parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polytask.encoder.base import WordEmbedding

_ALIGN = 32  # numbers: 64 bytes of bf16, so that every view starts on a cache line
_NO_DECAY = (nn.LayerNorm,)


@dataclass(frozen=True)
class Rule:
    """How a parameter is updated: its peak learning rate and its weight decay."""

    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Adam:
    """Adam's constants; ``decoupled`` is AdamW (Loshchilov & Hutter 2019), else decay is added to the gradient."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    decoupled: bool = True


@dataclass(frozen=True)
class Slot:
    """Where a parameter lies in the flat buffers."""

    name: str
    parameter: nn.Parameter
    start: int
    stop: int
    shadowed: bool

    def of(self, flat: Tensor) -> Tensor:
        return flat[self.start : self.stop].view(self.parameter.shape)


class Masters:
    """fp32 masters of some parameters in one flat buffer; those in ``shadowed`` compute in ``dtype`` beside them."""

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        shadowed: set[nn.Parameter],
        dtype: torch.dtype,
        order: Callable[[str, nn.Parameter], object] = lambda name, parameter: 0,
    ) -> None:
        low = dtype is not torch.float32
        # Shadowed ones first, so that one copy refreshes them all; then by update rule, so that a rule is one slice.
        keyed = sorted(parameters, key=lambda item: (not (low and item[1] in shadowed), str(order(*item))))
        self.slots: list[Slot] = []
        end = 0
        for name, parameter in keyed:
            self.slots.append(Slot(name, parameter, end, end + parameter.numel(), low and parameter in shadowed))
            end += -(-parameter.numel() // _ALIGN) * _ALIGN
        device = keyed[0][1].device if keyed else torch.device("cpu")
        self.flat = torch.zeros(end, device=device)
        shadow_end = next((slot.start for slot in self.slots if not slot.shadowed), end)
        self.shadow = torch.zeros(shadow_end, dtype=dtype, device=device)
        for slot in self.slots:
            slot.of(self.flat).copy_(slot.parameter.data)
            slot.parameter.data = slot.of(self.shadow if slot.shadowed else self.flat)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the shadows up to the masters."""
        self.shadow.copy_(self.flat[: len(self.shadow)])

    def tensors(self) -> dict[str, Tensor]:
        """Return the master of each parameter by name, views of the flat buffer."""
        return {slot.name: slot.of(self.flat) for slot in self.slots}

    def release(self) -> None:
        """Give each parameter its fp32 master back, and forget gradients."""
        for slot in self.slots:
            slot.parameter.grad = None
            slot.parameter.data = slot.of(self.flat).clone()


class Block:
    """Parameters that are updated together, or not at all in a step."""

    def __init__(
        self,
        module: nn.Module,
        prefix: str,
        chosen: Sequence[tuple[str, nn.Parameter]],
        *,
        shadowed: set[nn.Parameter],
        dtype: torch.dtype,
        rule: Callable[[str, nn.Parameter], Rule],
        adam: Adam,
    ) -> None:
        self.adam = adam
        plain = without_decay(module)

        def rule_of(name: str, parameter: nn.Parameter) -> Rule:
            given = rule(name, parameter)
            return Rule(given.learning_rate, 0.0) if parameter in plain else given

        self.masters = Masters(
            [(f"{prefix}{name}", parameter) for name, parameter in chosen],
            shadowed=shadowed,
            dtype=dtype,
            order=rule_of,
        )
        self.numbers = len(self.masters.flat)
        self.slices = _slices(self.masters.slots, rule_of, self.numbers)
        self.m, self.v = torch.zeros_like(self.masters.flat), torch.zeros_like(self.masters.flat)
        self.updates = torch.zeros((), device=self.masters.flat.device)
        tables = {m.weight: m for m in module.modules() if isinstance(m, WordEmbedding)}
        self._tables = [(tables[slot.parameter], slot) for slot in self.masters.slots if slot.parameter in tables]
        self._dense = [slot for slot in self.masters.slots if slot.parameter not in tables]
        for slot in self._dense:
            if slot.shadowed:
                slot.parameter.grad_dtype = torch.float32
        self._pointed: Tensor | None = None

    def point(self, gradient: Tensor | None) -> None:
        """Let backward passes add into ``gradient``, flat ``(n,)``; with None, parameters have no gradient."""
        if gradient is self._pointed and gradient is not None:
            return
        self._pointed = gradient
        for slot in self._dense:
            slot.parameter.grad = None if gradient is None else slot.of(gradient)
        for table, slot in self._tables:
            table.gradient_VD = None if gradient is None else slot.of(gradient)

    @torch.no_grad()
    def update(self, gradient: Tensor, factor: float, shrink: Tensor | None) -> None:
        """Take one Adam step. ``factor`` is the schedule's; the gradient is divided by ``shrink``, ``(1,)``, on the way."""
        self.updates += 1
        kernel = torch._fused_adamw_ if self.adam.decoupled else torch._fused_adam_
        for start, stop, rule in self.slices:
            kernel(
                [self.masters.flat[start:stop]],
                [gradient[start:stop]],
                [self.m[start:stop]],
                [self.v[start:stop]],
                [],
                [self.updates],
                lr=rule.learning_rate * factor,
                beta1=self.adam.beta1,
                beta2=self.adam.beta2,
                weight_decay=rule.weight_decay,
                eps=self.adam.epsilon,
                amsgrad=False,
                maximize=False,
                grad_scale=shrink,
                found_inf=None,
            )
        self.masters.refresh()

    def release(self) -> None:
        """Give the module its fp32 parameters back."""
        self.point(None)
        self.masters.release()

    def state_dict(self) -> dict[str, Tensor]:
        """Return Adam's moments and step count."""
        return {"m": self.m, "v": self.v, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy moments and step count in."""
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])


def without_decay(module: nn.Module) -> set[nn.Parameter]:
    """Return the parameters that are never decayed: biases, and all of a LayerNorm's."""
    norms = {p for m in module.modules() if _is_norm(m) for p in m.parameters(recurse=False)}
    return norms | {p for name, p in module.named_parameters() if name.split(".")[-1].startswith("bias")}


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _NO_DECAY) or type(module).__name__.endswith(("LayerNorm", "RMSNorm"))


def _slices(
    slots: Sequence[Slot], rule_of: Callable[[str, nn.Parameter], Rule], end: int
) -> list[tuple[int, int, Rule]]:
    slices: list[tuple[int, int, Rule]] = []
    ends = [*[slot.start for slot in slots[1:]], end] if slots else []  # a head without parameters has no slot
    for slot, after in zip(slots, ends, strict=True):
        rule = rule_of(slot.name, slot.parameter)
        if slices and slices[-1][2] == rule:
            slices[-1] = (slices[-1][0], after, rule)
        else:
            slices.append((slot.start, after, rule))
    return slices
