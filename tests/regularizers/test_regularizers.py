"""What every regularizer promises: rows stay apart, gradients and other draws untouched, a state that goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from polytask.assembly.parts import Parts
from polytask.encoder.auto import build_auto
from polytask.encoder.base import Encoder
from polytask.encoder.bert import Bert
from polytask.encoder.lstm import BiLstm
from polytask.model import TaskView
from polytask.regularizers.base import Regularizer, regularizers
from polytask.regularizers.smart import Smart
from polytask.training.step import Step
from polytask.training.twin import Twin

Tiny = Callable[..., dict[str, Any]]
Begun = Callable[..., tuple[Step, Parts]]
ViewOf = Callable[..., TaskView]
LookedAt = Callable[..., Parts]

TASKS = ["sentiment", "paraphrase", "similarity"]  # classes, a cross-encoder, a bi-encoder with scores
STAGE = {"steps": 4, "batch_size": 10, "learning_rate": 1e-3, "mixing": "joint"}
NAMES = regularizers.names()


def with_penalties(*settings: Mapping[str, Any]) -> dict[str, Any]:
    return STAGE | {"regularizers": [dict(each) for each in settings]}


def new(name: str, parts: Parts) -> Regularizer:
    """Return a regularizer that a stage has begun with; a teacher of it has fallen behind."""
    made = regularizers.create(name)

    def fallen_behind() -> Twin:
        blocks = Step(
            parts.model, parts.tasks, parts.train_rows, parts.stages[0], seed=0, dtype=torch.float32
        ).weights.blocks()
        twin = Twin(parts.model, blocks)
        generator = torch.Generator().manual_seed(1)
        noise = {n: 0.05 * torch.randn(t.shape, generator=generator) for n, t in twin.state_dict().items()}
        twin.load_state_dict({name: tensor + noise[name] for name, tensor in twin.state_dict().items()})
        return twin

    made.begin(fallen_behind, 4)
    return made


@pytest.mark.parametrize("task", [*TASKS, "words"])
@pytest.mark.parametrize("name", NAMES)
def test_each_row_has_a_penalty_of_its_own(looked_at: LookedAt, view_of: ViewOf, name: str, task: str) -> None:
    parts = looked_at(all_tasks=task == "words")
    made = new(name, parts)
    view = view_of(parts, task)
    penalty_N = made.penalty(view, view.run())
    assert penalty_N.shape == (10,)
    assert penalty_N.dtype is torch.float32
    assert (penalty_N > 0).all()
    for row, wanted in list(zip(view.batch.rows, penalty_N.tolist(), strict=True))[:2]:
        alone = view_of(parts, task, [row])  # a batch of one
        assert made.penalty(alone, alone.run()).tolist() == [pytest.approx(wanted, rel=1e-2, abs=1e-9)]
    penalty_N.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_a_penalty_adds_to_no_gradient_before_backward(
    all_heads: Tiny, begun: Begun, view_of: ViewOf, name: str, precision: str
) -> None:
    step, parts = begun(all_heads(with_penalties({"name": name}), precision=precision))
    step(0)
    made = step.stage.penalties[0].regularizer
    before = {held: buffer.clone() for held, buffer in step._buffers.items()}
    for task in parts.tasks:
        view = view_of(parts, task)
        penalty_N = made.penalty(view, view.run())
        assert all(torch.equal(buffer, before[held]) for held, buffer in step._buffers.items())
        assert bool(penalty_N.isfinite().all())
        assert (penalty_N > 0).any()
        penalty_N.sum().backward()  # type: ignore[no-untyped-call]
        assert any(not torch.equal(buffer, before[held]) for held, buffer in step._buffers.items())
        before = {held: buffer.clone() for held, buffer in step._buffers.items()}


def results(step: Step, steps: int = 1) -> tuple[dict[str, float], dict[str, float]]:
    for number in range(steps):
        result = step(number)
    return result.losses, result.penalties


@pytest.mark.parametrize("name", NAMES)
def test_the_clean_pass_does_not_notice(tiny: Tiny, begun: Begun, name: str) -> None:
    losses, penalties = results(begun(tiny(with_penalties({"name": name})))[0])
    plain, none = results(begun(tiny(STAGE))[0])
    assert losses == plain
    assert none == {}
    assert penalties.keys() == plain.keys()


def test_one_regularizer_does_not_shift_the_draws_of_another(tiny: Tiny, begun: Begun) -> None:
    smart, rdrop = {"name": "smart", "dropout": "fresh", "radius": 0.2}, {"name": "rdrop"}
    found = [results(begun(tiny(with_penalties(*some)))[0])[1] for some in ([smart], [rdrop], [smart, rdrop])]
    for task in TASKS:
        assert found[0][task] + found[1][task] == pytest.approx(found[2][task], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_it_acts_on_the_tasks_that_it_has_a_weight_for(tiny: Tiny, begun: Begun, name: str) -> None:
    recipe = tiny(with_penalties({"name": name, "weight": {"sentiment": 5.0, "similarity": 1.0}}))
    _, penalties = results(begun(recipe)[0], 2)
    assert penalties["paraphrase"] == 0.0
    assert penalties["sentiment"] > 0.0
    assert penalties["similarity"] > 0.0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_its_state_goes_on_as_if_nothing_had_happened(tiny: Tiny, begun: Begun, name: str, precision: str) -> None:
    recipe = tiny(with_penalties({"name": name}), precision=precision)
    whole, _ = begun(recipe)
    for number in range(3):
        whole(number)
    weights = {held: tensor.clone() for held, tensor in whole.weights.tensors().items()}
    state = {held: tensor.clone() for held, tensor in whole.state_dict().items()}
    whole(3)
    again, parts = begun(recipe)
    again.release()
    with torch.no_grad():
        for held, parameter in parts.model.named_parameters():
            parameter.copy_(weights[held])
    again = Step(parts.model, parts.tasks, parts.train_rows, parts.stages[0], seed=0, dtype=dtype_of(precision))
    again.load_state_dict(state)
    again(3)
    for held, tensor in whole.weights.tensors().items():
        assert torch.equal(tensor, again.weights.tensors()[held]), held
    for held, tensor in whole.state_dict().items():
        assert tensor.dtype in (torch.float32, torch.int64)
        assert torch.equal(tensor, again.state_dict()[held]), held


def dtype_of(precision: str) -> torch.dtype:
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


ACCUMULATED = [*({"name": name} for name in NAMES), {"name": "smart", "radius": 0.2, "steps": 0}]


@pytest.mark.parametrize("settings", ACCUMULATED, ids=lambda settings: "-".join(map(str, settings.values())))
def test_micro_batches_add_up(all_heads: Tiny, begun: Begun, settings: Mapping[str, Any]) -> None:
    tasks = {"tasks": [*TASKS, "words"]}  # a ranking batch is never split
    stage = with_penalties(settings) | tasks | {"optimizer": {"name": "adamw", "epsilon": 1e-5}}
    whole, _ = begun(all_heads(stage, drop=0.0))
    pieces, _ = begun(all_heads(stage | {"micro_batch": 3}, drop=0.0))
    for _ in range(2):
        one, other = results(whole, 2), results(pieces, 2)
        assert one[0] == pytest.approx(other[0], rel=1e-5)
        assert one[1] == pytest.approx(other[1], rel=1e-2, abs=1e-9)
    for held, tensor in whole.weights.tensors().items():
        torch.testing.assert_close(tensor, pieces.weights.tensors()[held], rtol=0, atol=1e-6)


def test_members_differ_pairwise(looked_at: LookedAt, view_of: ViewOf) -> None:
    parts = looked_at()
    view = view_of(parts, "sentiment")
    found: dict[str, Tensor] = {name: new(name, parts).penalty(view, view.run()) for name in NAMES}
    for a, b in combinations(found, 2):
        assert not torch.allclose(found[a], found[b]), f"{a} and {b} are the same"


def lstm(parts: Parts) -> Encoder:
    return BiLstm(vocabulary(parts), embedding=12, hidden=16, layers=1, dropout=0.2)


def roberta(parts: Parts) -> Encoder:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
    transformers = pytest.importorskip("transformers")
    config = transformers.RobertaConfig(vocab_size=vocabulary(parts), **sizes).to_dict()
    return build_auto({"config": config, "pooler": True})


def vocabulary(parts: Parts) -> int:
    encoder = parts.model.encoders["shared"]
    assert isinstance(encoder, Bert)
    return encoder.shape.vocabulary


@pytest.mark.parametrize("new_encoder", [lstm, roberta])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_with_other_encoders(
    tiny: Tiny, begun: Begun, view_of: ViewOf, new_encoder: Callable[[Parts], Encoder], precision: str
) -> None:
    everything = [{"name": "smart"}, {"name": "smart", "radius": "unit", "dropout": "off"}]
    everything += [{"name": name} for name in NAMES if name != "smart"]
    _, parts = begun(tiny(with_penalties(*everything)))
    parts.model.encoders["shared"] = new_encoder(parts)
    step = Step(parts.model, parts.tasks, parts.train_rows, parts.stages[0], seed=0, dtype=dtype_of(precision))
    for number in range(2):
        assert all(penalty > 0 for penalty in step(number).penalties.values())
    view = view_of(parts, "similarity")
    assert not Smart(sigma=0.0).penalty(view, view.run()).any()
    assert not Smart(sigma=0.0, radius="unit").penalty(view, view.run()).any()
    penalty_N = Smart(radius=0.01).penalty(view, view.run())
    if new_encoder is roberta:  # pads inside; what a row gets does not depend on the padding of its batch
        parts.model.eval()
        penalty_N = Smart(radius=0.01).penalty(view, view.run())
        for row, wanted in list(zip(view.batch.rows, penalty_N.tolist(), strict=True))[:2]:
            alone = view_of(parts, "similarity", [row])
            assert Smart(radius=0.01).penalty(alone, alone.run()).tolist() == [pytest.approx(wanted, rel=1e-2)]
    assert (penalty_N > 0).all()
