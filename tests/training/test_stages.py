"""Schedules by their formulas, warm-up in its units, and which parameters a stage trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from polytask.errors import RecipeError
from polytask.recipe.build import Parts
from polytask.training.stages import Schedule, trained_parameters

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


def test_more_layers_than_there_are_is_an_error(tiny: Tiny, parts_of: PartsOf) -> None:
    with pytest.raises(RecipeError, match=r"train.last: is 3, and the encoder has 2 layers"):
        parts_of(tiny({"train": {"last": 3}}))
