"""What every mixing policy promises, and each one's own rule. Shapes: S steps, T tasks, K tasks in a step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from polytask.data.mixing.base import Mixing, mixings
from polytask.errors import RecipeError

BATCHES = (40, 10, 5)
Counts = NDArray[np.int64]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def draw(name: str, batches: Sequence[int] = BATCHES, epochs: float = 1, seed: int = 0, **options: Any) -> Counts:
    mixing = mixings.create(name, **options)
    return mixing.draw(batches, round(epochs * mixing.epoch_steps(batches)), generator(seed))


def counts(sequence: Counts, tasks: int = 3) -> list[int]:
    return [int(count) for count in np.bincount(sequence.ravel(), minlength=tasks)]


@pytest.fixture(params=mixings.names())
def mixing(request: pytest.FixtureRequest) -> Mixing:
    return mixings.create(request.param)


@pytest.mark.parametrize("steps", [1, 7, 200])
@pytest.mark.parametrize("batches", [(4,), (3, 9), BATCHES])
def test_every_step_holds_tasks_that_there_are(mixing: Mixing, batches: Sequence[int], steps: int) -> None:
    sequence = mixing.draw(batches, steps, generator())
    assert sequence.shape == (steps, len(batches) if mixing.joins_tasks else 1)
    assert np.issubdtype(sequence.dtype, np.integer)
    assert ((sequence >= 0) & (sequence < len(batches))).all()


def test_every_task_occurs_in_the_long_run(mixing: Mixing) -> None:
    assert min(counts(mixing.draw(BATCHES, 4 * mixing.epoch_steps(BATCHES), generator()))) > 0


def test_the_same_generator_draws_the_same(mixing: Mixing) -> None:
    assert np.array_equal(mixing.draw(BATCHES, 99, generator(1)), mixing.draw(BATCHES, 99, generator(1)))


def test_an_epoch_has_steps(mixing: Mixing) -> None:
    assert mixing.epoch_steps((1,)) == 1
    assert mixing.epoch_steps(BATCHES) > 0


def test_a_step_joins_every_task_once_or_holds_one(mixing: Mixing) -> None:
    sequence = mixing.draw(BATCHES, 20, generator())
    if mixing.joins_tasks:
        assert all(sorted(step) == [0, 1, 2] for step in sequence.tolist())
    else:
        assert sequence.shape[1] == 1


def test_members_differ_pairwise() -> None:
    found = {name: mixings.create(name).draw(BATCHES, 110, generator()) for name in mixings.names()}
    for a, b in combinations(found, 2):
        assert not np.array_equal(found[a], found[b]), f"{a} and {b} are the same"


@pytest.mark.parametrize("name", ["proportional", "temperature", "annealed"])
def test_another_generator_draws_another_sequence(name: str) -> None:
    assert not np.array_equal(draw(name, seed=0), draw(name, seed=1))


def chi_square(found: Sequence[int], shares: NDArray[np.float64]) -> float:
    expected = shares * sum(found)
    return float(((np.array(found) - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(("tau", "power"), [(1.0, 1.0), (2.0, 0.5), (5.0, 0.2), (float("inf"), 0.0)])
def test_temperature_draws_in_proportion_to_a_root_of_the_size(tau: float, power: float) -> None:
    sequence = mixings.create("temperature", tau=tau).draw(BATCHES, 100_000, generator())
    weights = np.array(BATCHES, dtype=float) ** power
    assert chi_square(counts(sequence), weights / weights.sum()) < 18.4  # 2 degrees of freedom: one in 10,000
    # … and neighbours are independent of each other
    pairs = np.bincount(sequence[:-1, 0] * 3 + sequence[1:, 0], minlength=9)
    shares = np.outer(weights, weights).ravel() / weights.sum() ** 2
    assert chi_square(pairs.tolist(), shares) < 40


@pytest.mark.parametrize("slope", [0.8, 0.0, 1.0])
def test_annealed_flattens_from_epoch_to_epoch(slope: float) -> None:
    batches, epochs = (12_000, 6_000, 2_000), 5
    sequence = draw("annealed", batches, epochs, slope=slope).reshape(epochs, sum(batches))
    for epoch in range(1, epochs + 1):
        alpha = 1 - slope * (epoch - 1) / (epochs - 1)  # Stickland & Murray (2019), §4.1
        weights = np.array(batches, dtype=float) ** alpha
        assert chi_square(counts(sequence[epoch - 1]), weights / weights.sum()) < 18.4


def test_one_annealed_epoch_draws_by_size() -> None:
    sequence = draw("annealed", (30_000, 10_000))
    assert chi_square(counts(sequence, 2), np.array([0.75, 0.25])) < 15


def test_proportional_brings_every_batch_once_an_epoch() -> None:
    sequence = draw("proportional", epochs=3).reshape(3, sum(BATCHES))
    assert [counts(epoch) for epoch in sequence] == [list(BATCHES)] * 3
    assert not np.array_equal(sequence[0], sequence[1])
    assert sequence[0].tolist() != sorted(sequence[0].tolist())


@pytest.mark.parametrize(("until", "rounds"), [("longest", 40), ("shortest", 5)])
def test_round_robin_takes_turns_until_the_longest_or_shortest_ends(until: str, rounds: int) -> None:
    assert draw("round_robin", until=until)[:, 0].tolist() == [0, 1, 2] * rounds


@pytest.mark.parametrize(("until", "steps"), [("longest", 40), ("shortest", 5), ("stretched", 5)])
def test_joint_steps_until_the_longest_or_shortest_ends(until: str, steps: int) -> None:
    assert draw("joint", until=until).tolist() == [[0, 1, 2]] * steps


def test_only_stretched_batches_grow() -> None:
    assert mixings.create("joint", until="stretched").stretches
    assert not any(mixings.create(name).stretches for name in mixings.names())


def test_sequential_goes_through_the_tasks_in_each_epoch_or_over_the_stage() -> None:
    epoch = [0] * 3 + [1] * 2
    assert draw("sequential", (3, 2), 2)[:, 0].tolist() == epoch * 2
    assert draw("sequential", (3, 2), 2, per="stage")[:, 0].tolist() == [0] * 6 + [1] * 4
    assert draw("sequential", (3, 2), 1.6)[:, 0].tolist() == epoch + epoch[:3]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("temperature", {"tau": 0.5}),
        ("temperature", {"tau": 0}),
        ("annealed", {"slope": 1.5}),
        ("annealed", {"slope": -0.1}),
        ("joint", {"until": "middle"}),
        ("sequential", {"per": "step"}),
    ],
)
def test_an_option_that_cannot_be_is_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(options))):
        mixings.create(name, **options)
