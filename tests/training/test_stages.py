"""Schedules by their formulas, warm-up in its units, and which parameters a stage trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polytask.assembly.parts import Parts
from polytask.encoder.base import Encoder
from polytask.errors import RecipeError
from polytask.run.tensors import load_tensors, save_tensors
from polytask.training.optim import Rule
from polytask.training.stages import Average, Schedule, layer_rule, reaches, trained_parameters
from polytask.training.step import Step

Tiny = Callable[..., dict[str, Any]]
PartsOf = Callable[[Mapping[str, Any]], Parts]

TASKS = ("sentiment", "paraphrase", "similarity")


def test_constant_stays_at_the_peak() -> None:
    assert [Schedule("constant", 0, 4)(step) for step in range(4)] == [1.0] * 4


def test_linear_falls_from_the_peak_towards_zero() -> None:
    assert [Schedule("linear", 0, 4)(step) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_cosine_falls_along_half_a_wave() -> None:
    wanted = [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert [Schedule("cosine", 0, 8)(step) for step in range(8)] == pytest.approx(wanted)


def test_warm_up_rises_in_equal_steps_and_never_idles() -> None:
    linear = Schedule("linear", 3, 7)
    assert [linear(step) for step in range(7)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25])
    cosine = Schedule("cosine", 3, 7)
    assert [cosine(step) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert cosine(5) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 9, 10, 20])
def test_every_factor_lies_above_zero_and_at_most_at_one(name: Any, warmup: int) -> None:
    factors = [Schedule(name, warmup, 10)(step) for step in range(10)]
    assert all(0.0 < factor <= 1.0 for factor in factors)
    assert max(factors) == (1.0 if warmup < 10 else factors[-1])


@pytest.mark.parametrize(
    ("warmup", "unit", "steps"),
    [
        (0.25, "auto", 9),
        (5, "auto", 5),
        (0, "auto", 0),
        (1, "auto", 1),
        (0.5, "share", 18),
        (2.6, "steps", 3),
        (0.5, "epochs", 9),
        (1.5, "epochs", 27),
    ],
)
def test_warm_up_is_counted_in_its_unit(tiny: Tiny, parts_of: PartsOf, warmup: float, unit: str, steps: int) -> None:
    schedule = {"name": "linear", "warmup": warmup, "warmup_unit": unit}
    stage = parts_of(tiny({"epochs": 2, "batch_size": 10, "schedule": schedule})).stages[0]
    assert stage.epoch_steps == 18
    assert stage.steps == 36
    assert stage.schedule == Schedule("linear", steps, 36)


def test_epochs_or_steps_make_the_length(tiny: Tiny, parts_of: PartsOf) -> None:
    stages = [
        {"batch_size": 10, "epochs": 1.5},
        {"batch_size": 10, "steps": 7, "evaluate_every": 3},
        {"batch_size": 10, "epochs": 2, "mixing": "joint"},
        {"batch_size": 10},
        {"batch_size": 10, "epochs": 0.001},
        {"batch_size": 60, "epochs": 1, "tasks": ["similarity", "sentiment"]},
    ]
    built = parts_of(tiny(*stages)).stages
    assert [stage.steps for stage in built] == [27, 7, 12, 54, 1, 2]
    assert [stage.evaluate_every for stage in built] == [18, 3, 6, 18, 18, 2]
    assert built[-1].tasks == ["sentiment", "similarity"]  # the recipe's order


def test_learning_rates_and_decays_of_tasks_and_stages(tiny: Tiny, parts_of: PartsOf) -> None:
    recipe = tiny(
        {"learning_rate": 1e-4, "weight_decay": 0.2},
        {
            "learning_rate": 1e-4,
            "head_learning_rate": 1e-2,
            "clip": 0,
            "optimizer": {"name": "adam", "betas": [0.8, 0.9]},
        },
    )
    recipe["tasks"]["sentiment"] |= {"learning_rate": 5e-3, "weight_decay": 0.0}
    one, two = parts_of(recipe).stages
    assert (one.rule.learning_rate, one.rule.weight_decay) == (1e-4, 0.2)
    assert [one.head_rules[task].learning_rate for task in TASKS] == [5e-3, 1e-4, 1e-4]
    assert [one.head_rules[task].weight_decay for task in TASKS] == [0.0, 0.2, 0.2]
    assert [two.head_rules[task].learning_rate for task in TASKS] == [5e-3, 1e-2, 1e-2]
    assert (one.clip, two.clip) == (1.0, None)
    assert (one.adam.decoupled, two.adam.decoupled) == (True, False)
    assert (two.adam.beta1, two.adam.beta2) == (0.8, 0.9)


@pytest.mark.parametrize(
    ("train", "tasks", "prefixes"),
    [
        ("all", TASKS, ("embeddings.", "layers.0.", "layers.1.", "pooler.")),
        ("heads", TASKS, ()),
        ({"last": 1}, TASKS, ("layers.1.", "pooler.")),
        ({"last": 2}, TASKS, ("layers.0.", "layers.1.", "pooler.")),
        ("all", ("similarity",), ("embeddings.", "layers.0.", "layers.1.")),
        ({"last": 1}, ("similarity",), ("layers.1.",)),
    ],
)
def test_a_stage_trains_what_it_says(
    tiny: Tiny, parts_of: PartsOf, train: object, tasks: tuple[str, ...], prefixes: tuple[str, ...]
) -> None:
    parts = parts_of(tiny({"train": train, "tasks": list(tasks)}))
    encoder = parts.model.encoders["shared"]
    wanted = {name for name, _ in encoder.named_parameters() if name.startswith(prefixes)} if prefixes else set()
    assert {name for name, _ in trained_parameters(parts.model, parts.stages[0], "shared")} == wanted


@pytest.mark.parametrize(
    ("read", "train", "prefixes"),
    [
        ({"similarity": [1]}, "all", ("embeddings.", "layers.0.")),
        ({"similarity": [0]}, "all", ("embeddings.",)),
        ({"similarity": [0, 2]}, "all", ("embeddings.", "layers.0.", "layers.1.")),
        ({"similarity": "all"}, "all", ("embeddings.", "layers.0.", "layers.1.")),
        ({"similarity": [1], "sentiment": "last"}, "all", ("embeddings.", "layers.0.", "layers.1.")),
        ({"similarity": [1], "paraphrase": [0]}, "all", ("embeddings.", "layers.0.")),
        ({"similarity": [1]}, {"last": 2}, ("layers.0.",)),
        ({"similarity": [1]}, {"last": 1}, ()),
    ],
)
def test_layers_that_no_pooling_of_the_stage_reads_are_not_trained(
    tiny: Tiny, parts_of: PartsOf, read: Mapping[str, Any], train: object, prefixes: tuple[str, ...]
) -> None:
    recipe = tiny({"train": train, "tasks": list(read)})
    for task, layers in read.items():
        recipe["tasks"][task]["pooling"] = {"name": "mean", "layers": layers}
    parts = parts_of(recipe)
    encoder = parts.model.encoders["shared"]
    wanted = {name for name, _ in encoder.named_parameters() if name.startswith(prefixes)} if prefixes else set()
    assert {name for name, _ in trained_parameters(parts.model, parts.stages[0], "shared")} == wanted


@pytest.mark.parametrize("train", ["all", {"last": 2}])
def test_whatever_a_stage_trains_gets_a_gradient_and_all_else_stays_where_it_was(
    tiny: Tiny, parts_of: PartsOf, step_of: Callable[..., Step], train: object
) -> None:
    recipe = tiny({"train": train, "tasks": ["similarity"], "schedule": {"name": "constant", "warmup": 0}}, drop=0.0)
    recipe["tasks"]["similarity"]["pooling"] = {"name": "attention", "layers": [1]}
    parts = parts_of(recipe)
    before = {name: parameter.detach().clone() for name, parameter in parts.model.named_parameters()}
    trained = {f"encoders.shared.{name}" for name, _ in trained_parameters(parts.model, parts.stages[0], "shared")}
    own = {name for name in before if name.startswith("heads.similarity.")}
    step = step_of(parts)
    step(0)
    moved = {name for name, parameter in step.weights.tensors().items() if not torch.equal(parameter, before[name])}
    assert moved == trained | own
    assert not any(name.startswith(("encoders.shared.layers.1.", "encoders.shared.pooler.")) for name in moved)


def test_a_task_without_weights_of_its_own_trains_the_encoder_alone(
    tiny: Tiny, parts_of: PartsOf, step_of: Callable[..., Step], tmp_path: Path
) -> None:
    recipe = tiny({"mixing": "joint", "aggregator": "pcgrad"}, drop=0.0)
    recipe["tasks"]["similarity"] |= COSINE
    parts = parts_of(recipe)
    assert not list(parts.model.head("similarity").parameters())
    assert reaches(parts.model, parts.stages[0], "similarity")
    step = step_of(parts)
    assert set(step(0).losses) == set(TASKS)
    save_tensors(step.state_dict(), tmp_path / "state.safetensors")
    again = step_of(parts_of(recipe))
    again.load_state_dict(load_tensors(tmp_path / "state.safetensors"))
    for name, tensor in step.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


COSINE = {
    "kind": {"name": "regression", "range": [0.0, 5.0], "output": "relu_cosine"},
    "pair": {"name": "bi", "features": ["cosine"]},
    "head": "cosine",
}


@pytest.mark.parametrize(("train", "layers"), [("heads", "last"), ({"last": 1}, [1])])
def test_a_stage_that_would_teach_a_task_nothing_is_refused(
    tiny: Tiny, parts_of: PartsOf, train: object, layers: object
) -> None:
    recipe = tiny({}, {"train": train})
    recipe["tasks"]["similarity"] |= {**COSINE, "pooling": {"name": "mean", "layers": layers}}
    with pytest.raises(RecipeError, match=r"stages\.1: task 'similarity' has no weights of its own"):
        parts_of(recipe)
    recipe["stages"][1]["tasks"] = ["sentiment", "paraphrase"]
    parts_of(recipe)


def test_more_layers_than_there_are_is_an_error(tiny: Tiny, parts_of: PartsOf) -> None:
    with pytest.raises(RecipeError, match=r"train.last: is 3, and the encoder has 2 layers"):
        parts_of(tiny({"train": {"last": 3}}))


def test_rates_fall_from_layer_to_layer(tiny: Tiny, parts_of: PartsOf) -> None:
    encoder = parts_of(tiny()).model.encoders["shared"]
    assert isinstance(encoder, Encoder)
    rates = {
        name: layer_rule(Rule(1e-3, 0.1), 0.95, encoder, name).learning_rate for name, _ in encoder.named_parameters()
    }
    assert rates["pooler.weight"] == rates["layers.1.feed_forward.up.weight"] == 1e-3
    assert rates["layers.0.attention.qkv.bias"] == pytest.approx(1e-3 * 0.95)
    assert rates["embeddings.word.weight"] == rates["embeddings.norm.bias"] == pytest.approx(1e-3 * 0.95**2)
    assert {layer_rule(Rule(1e-3, 0.1), 1.0, encoder, name) for name in rates} == {Rule(1e-3, 0.1)}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_rate_is_a_few_slices_whatever_the_number_of_parameters(
    tiny: Tiny, parts_of: PartsOf, step_of: Callable[..., Step], precision: str
) -> None:
    recipe = tiny({"layer_decay": 0.9, "batch_size": 10}, precision=precision)
    recipe["encoder"] |= {"layers": 5}
    block = step_of(parts_of(recipe)).weights.encoders["shared"]
    # five layers and the embeddings, decayed or not; in bf16 a layer's norms lie apart from its other undecayed ones
    assert len(block.slices) == {"float32": 12, "bfloat16": 17}[precision]
    assert len({rule for _, _, rule in block.slices}) == 12
    ends = [0, *(stop for _, stop, _ in block.slices)]
    assert [start for start, _, _ in block.slices] == ends[:-1]
    assert ends[-1] == block.numbers
    for slot in block.masters.slots:
        (rule,) = {rule for start, stop, rule in block.slices if start <= slot.start and slot.stop <= stop}
        layer = slot.name.removeprefix("encoders.shared.").split(".")
        below = {"embeddings": 5, "pooler": 0}.get(layer[0], 4 - int(layer[1]) if layer[0] == "layers" else -1)
        assert rule.learning_rate == pytest.approx(2e-5 * 0.9**below), slot.name


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999, 1.0])
def test_an_average_weighs_what_came_after_each_step_and_nothing_else(decay: float) -> None:
    generator = np.random.default_rng(0)
    values, found = generator.normal(size=20), 1e6  # where it starts from does not matter
    for step, value in enumerate(values):
        share = Average(decay).share(step)
        found += share * (value - found)
        factors = decay ** np.arange(step, -1, -1)
        assert found == pytest.approx((factors @ values[: step + 1]) / factors.sum(), abs=1e-9)


def test_settings_of_rates_and_averages(tiny: Tiny, parts_of: PartsOf) -> None:
    one, two, three = parts_of(tiny({"average": 0.99}, {"average": {}}, {"layer_decay": 0.9})).stages
    assert (one.average, two.average, three.average) == (Average(0.99), Average(0.999), None)
    assert (one.layer_decay, three.layer_decay) == (1.0, 0.9)
    with pytest.raises(RecipeError, match=r"stages\.0\.average.*decey.*decay"):
        parts_of(tiny({"average": {"decey": 0.9}}))
    for wrong in ({"average": 0}, {"average": 1.5}, {"layer_decay": 0}, {"layer_decay": 1.1}, {"average": True}):
        with pytest.raises(RecipeError, match=f"stages\\.0\\.{next(iter(wrong))}"):
            parts_of(tiny(wrong))
