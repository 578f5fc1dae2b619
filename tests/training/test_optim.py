"""Flat buffers: where a parameter lies, who is decayed, and an update that is torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from polytask.encoder.base import LayerNorm, WordEmbedding
from polytask.training.optim import Adam, Block, Masters, Rule, without_decay


class Small(nn.Module):
    """A module with a table, a linear layer, a LayerNorm and odd sizes."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = WordEmbedding(7, 5)
        self.linear = nn.Linear(5, 3)
        self.norm = LayerNorm(3)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, ids: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.linear(self.table(ids)))
        return normed


def block(module: Small, adam: Adam | None = None, dtype: torch.dtype = torch.float32, decay: float = 0.1) -> Block:
    return Block(
        module,
        "m.",
        list(module.named_parameters()),
        shadowed=set(module.linear.parameters()),
        dtype=dtype,
        rule=lambda name, parameter: Rule(0.01, decay),
        adam=adam or Adam(),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_parameter_has_a_place_of_its_own_on_a_cache_line(dtype: torch.dtype) -> None:
    module = Small()
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    masters = block(module, dtype=dtype).masters
    end = 0
    for slot in masters.slots:
        assert slot.start % 32 == 0
        assert slot.start >= end
        assert slot.stop - slot.start == slot.parameter.numel()
        assert slot.parameter.data_ptr() % 64 == (masters.shadow if slot.shadowed else masters.flat).data_ptr() % 64
        end = slot.stop
    assert len(masters.flat) >= end
    assert {f"m.{name}" for name in before} == masters.tensors().keys()
    for name, tensor in before.items():
        assert torch.equal(masters.tensors()[f"m.{name}"], tensor)
        assert torch.equal(module.get_parameter(name).detach(), tensor.to(module.get_parameter(name).dtype))


def test_only_what_multiplies_is_shadowed_and_comes_first() -> None:
    module = Small()
    masters = block(module, dtype=torch.bfloat16).masters
    assert [slot.shadowed for slot in masters.slots] == [True, True, False, False, False]
    assert {name for name, p in module.named_parameters() if p.dtype is torch.bfloat16} == {
        "linear.weight",
        "linear.bias",
    }
    assert len(masters.shadow) == masters.slots[2].start
    assert len(block(Small()).masters.shadow) == 0  # in fp32 there is nothing to shadow


def test_parameters_are_views_so_an_update_of_the_flat_buffer_is_seen() -> None:
    module = Small()
    masters = block(module).masters
    masters.flat.fill_(2.0)
    assert all(bool((parameter == 2.0).all()) for parameter in module.parameters())


def test_biases_and_norms_are_not_decayed() -> None:
    module = Small()
    assert without_decay(module) == {module.linear.bias, module.norm.weight, module.norm.bias}
    held = block(module, decay=0.3)
    decay = {
        slot.name: rule.weight_decay
        for slot in held.masters.slots
        for start, stop, rule in held.slices
        if start <= slot.start < stop
    }
    assert decay == {
        "m.table.weight": 0.3,
        "m.linear.weight": 0.3,
        "m.linear.bias": 0.0,
        "m.norm.weight": 0.0,
        "m.norm.bias": 0.0,
    }
    assert len(held.slices) == 2  # a rule is one slice, so that a step is two calls
    assert [held.slices[0][0], held.slices[0][1], held.slices[1][1]] == [0, held.slices[1][0], held.numbers]


def backward(module: nn.Module, ids: Tensor, factor: float) -> None:
    (module(ids).sin() * factor).sum().backward()


@pytest.mark.parametrize("decoupled", [True, False])
def test_updates_are_torchs_own(decoupled: bool) -> None:
    ours, theirs = Small(), Small()
    held = block(ours, Adam(beta1=0.8, beta2=0.95, epsilon=1e-6, decoupled=decoupled))
    plain = without_decay(theirs)
    groups = [
        {"params": [p for p in theirs.parameters() if p not in plain], "weight_decay": 0.1},
        {"params": list(plain), "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimizer = kind(groups, betas=(0.8, 0.95), eps=1e-6, lr=0.01)
    flat = torch.zeros(held.numbers)
    for number in range(5):
        ids, factor = torch.tensor([number, 1, 1, 6]), 0.5 if number % 2 else 1.0
        flat.zero_()
        held.point(flat)
        backward(ours, ids, 3.0)
        held.update(flat, factor, torch.tensor([3.0]))  # scaled up, and down again on the way
        optimizer.zero_grad()
        backward(theirs, ids, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * factor
        optimizer.step()
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).detach(), parameter.detach(), rtol=1e-5, atol=1e-6)
    assert held.state_dict()["updates"].item() == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_add_up_in_the_buffer_that_is_pointed_to(dtype: torch.dtype) -> None:
    module = Small()
    held = block(module, dtype=dtype)
    one, two = torch.zeros(2, held.numbers)
    for _ in range(2):
        held.point(one)
        module.norm(module.linear(module.table(torch.tensor([2, 2])).to(dtype))).float().sin().sum().backward()
    held.point(two)
    module.norm(module.linear(module.table(torch.tensor([2, 2])).to(dtype))).float().sin().sum().backward()
    assert one.dtype is torch.float32
    assert two.any()
    torch.testing.assert_close(one, 2 * two)
    table = next(slot for slot in held.masters.slots if slot.name == "m.table.weight").of(two)
    assert table[2].any()
    assert not table[[0, 1, 3, 4, 5, 6]].any()
    assert module.table.weight.grad is None  # no gradient as large as the table


def test_padding_stays_zero() -> None:
    module = Small()
    held = block(module)
    flat = torch.zeros(held.numbers)
    held.point(flat)
    for _ in range(3):
        backward(module, torch.tensor([0, 3]), 1.0)
        held.update(flat, 1.0, None)
    used = torch.zeros(held.numbers, dtype=torch.bool)
    for slot in held.masters.slots:
        used[slot.start : slot.stop] = True
    for tensor in (held.masters.flat, held.m, held.v):
        assert not tensor[~used].any()


def test_a_released_module_is_an_ordinary_one() -> None:
    module = Small()
    held = block(module, dtype=torch.bfloat16)
    held.point(torch.zeros(held.numbers))
    kept = {name.removeprefix("m."): tensor.clone() for name, tensor in held.masters.tensors().items()}
    held.release()
    for name, parameter in module.named_parameters():
        assert parameter.dtype is torch.float32
        assert parameter.grad is None
        assert torch.equal(parameter.detach(), kept[name])
    held.masters.flat.zero_()
    assert all(bool(parameter.any()) for parameter in module.parameters())
    backward(module, torch.tensor([1]), 1.0)
    assert module.table.weight.grad is not None


def test_a_state_is_copied_in() -> None:
    one, other = block(Small()), block(Small())
    flat = torch.ones(one.numbers)
    one.update(flat, 1.0, None)
    state = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    other.load_state_dict(state)
    state["m"].zero_()
    assert torch.equal(other.m, one.m)
    assert other.updates.item() == 1


def test_nothing_to_hold_is_no_error() -> None:
    masters = Masters([], shadowed=set(), dtype=torch.bfloat16)
    masters.refresh()
    masters.release()
    assert masters.tensors() == {}
