"""The plan is a pure function of (stage, step): any step can be asked for, in any order, from anywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from polytask.data.batching import Cut, TaskStream
from polytask.data.mixing.base import mixings
from polytask.training.plan import Plan

LENGTHS = {
    "long": np.asarray([5, 9, 3, 7, 5, 8, 4, 6, 12, 3, 5, 7, 9], dtype=np.int64),
    "short": np.asarray([4, 4, 6, 2, 9], dtype=np.int64),
}


def streams(seed: int = 0) -> dict[str, TaskStream]:
    return {name: TaskStream(lengths, Cut(3), (seed, "data", 0, name)) for name, lengths in LENGTHS.items()}


def plan(mixing: str, steps: int = 30, micro_batch: int | None = None, seed: int = 0, **options: Any) -> Plan:
    made = streams(seed)
    batches_T = [stream.per_pass for stream in made.values()]
    sequence_SK = mixings.create(mixing, **options).draw(batches_T, steps, np.random.default_rng(seed))
    return Plan(made, sequence_SK, micro_batch)


def rows_of(plan: Plan, step: int) -> list[tuple[str, list[int], int, int]]:
    return [(micro.task, micro.rows.tolist(), micro.index, micro.of_rows) for micro in plan(step)]


@pytest.mark.parametrize("mixing", mixings.names())
def test_a_step_is_the_same_whenever_it_is_asked_for(mixing: str) -> None:
    forwards = plan(mixing)
    wanted = [rows_of(forwards, step) for step in range(30)]
    backwards = plan(mixing)
    assert [rows_of(backwards, step) for step in reversed(range(30))] == wanted[::-1]
    assert rows_of(plan(mixing), 17) == wanted[17]
    assert [rows_of(plan(mixing, seed=1), step) for step in range(30)] != wanted


@pytest.mark.parametrize("mixing", mixings.names())
def test_each_pass_over_a_task_takes_every_row_once(mixing: str) -> None:
    made = plan(mixing, steps=60)
    taken: dict[str, list[int]] = {name: [] for name in LENGTHS}
    for step in range(60):
        for micro in made(step):
            taken[micro.task] += micro.rows.tolist()
    for name, lengths in LENGTHS.items():
        passes = len(taken[name]) // len(lengths)
        assert passes >= 1
        for number in range(passes):
            assert sorted(taken[name][number * len(lengths) :][: len(lengths)]) == list(range(len(lengths)))


def test_micro_batches_are_the_pieces_of_a_batch_in_order() -> None:
    whole, pieces = plan("joint"), plan("joint", micro_batch=2)
    for step in range(10):
        batches = {micro.task: micro.rows.tolist() for micro in whole(step)}
        joined: dict[str, list[int]] = {name: [] for name in batches}
        for number, micro in enumerate(pieces(step)):
            assert micro.index == number
            assert len(micro.rows) <= 2
            assert micro.of_rows == len(batches[micro.task])
            joined[micro.task] += micro.rows.tolist()
        assert joined == batches


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_processes_share_out_a_step_without_rest(size: int) -> None:
    made = plan("joint", micro_batch=1)
    micros = made(4)
    shares = [micro.index for rank in range(size) for micro in micros[rank::size]]
    assert sorted(shares) == list(range(len(micros)))


def test_a_tasks_batches_follow_one_another_whatever_comes_between() -> None:
    made = plan("proportional", steps=40)
    fresh = streams()
    seen = dict.fromkeys(LENGTHS, 0)
    for step in range(40):
        (micro,) = made(step)
        assert micro.rows.tolist() == fresh[micro.task].batch(seen[micro.task]).tolist()
        seen[micro.task] += 1


def test_tokens_of_steps_are_counted_and_those_of_all_estimated() -> None:
    made = plan("joint", steps=30)
    counted = sum(int(LENGTHS[micro.task][micro.rows].sum()) for step in (2, 5) for micro in made(step))
    assert made.tokens([2, 5]) == counted
    everything = made.tokens(list(range(30)))
    assert made.tokens() == pytest.approx(everything, rel=0.1)


def test_the_longest_and_the_shortest_text_are_not_in_one_batch() -> None:
    made = streams()["long"]
    spread: NDArray[np.int64] = np.asarray([np.ptp(LENGTHS["long"][rows]) for rows in made.batches(0)])
    assert spread.max() <= 4


def test_rows_of_equal_length_meet_in_other_batches_each_pass() -> None:
    made = TaskStream(np.full(12, 5), Cut(3), (0, "data", 0, "even"))
    passes = {frozenset(tuple(sorted(rows.tolist())) for rows in made.batches(number)) for number in range(6)}
    assert len(passes) == 6


@pytest.mark.parametrize("mixing", ["round_robin", "joint"])
def test_a_task_that_is_left_off_at_the_shortest_goes_on_where_it_stood(mixing: str) -> None:
    policy = mixings.create(mixing, until="shortest")
    batches_T = [stream.per_pass for stream in streams().values()]
    epochs = -(-batches_T[0] // batches_T[1])
    made = plan(mixing, epochs * policy.epoch_steps(batches_T), until="shortest")
    shown = [micro.rows for step in range(made.steps) for micro in made(step) if micro.task == "long"]
    assert sorted(np.concatenate(shown[: batches_T[0]]).tolist()) == list(range(13))
    assert made.passes["long"] == epochs * batches_T[1] / batches_T[0] > 1


@pytest.mark.parametrize("name", ["round_robin", "joint", "proportional", "sequential"])
def test_an_epoch_shows_every_row_of_every_task(name: str) -> None:
    steps = mixings.create(name).epoch_steps([stream.per_pass for stream in streams().values()])
    made = plan(name, steps)
    for task, lengths in LENGTHS.items():
        rows = [micro.rows for step in range(steps) for micro in made(step) if micro.task == task]
        assert set(np.concatenate(rows).tolist()) == set(range(len(lengths)))
        assert made.passes[task] >= 1


def test_one_task_to_its_end_before_the_next_and_task_after_task_in_each_epoch() -> None:
    order = [micro.task for step in range(14) for micro in plan("sequential", 14, per="stage")(step)]
    assert order == ["long"] * 10 + ["short"] * 4
    order = [micro.task for step in range(14) for micro in plan("sequential", 14)(step)]
    assert order == (["long"] * 5 + ["short"] * 2) * 2
