"""Randomness is derived from keys: the same key draws the same, another draws another."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask.runtime.keys import numpy_generator, reseed, seed_of, torch_generator

keys = st.lists(st.integers(0, 2**40) | st.text(max_size=5), max_size=4).map(tuple)


def test_the_hash_is_frozen() -> None:
    # A change of these numbers changes every run that was ever made, and forbids going on with it.
    assert seed_of(0, "sst", 17, "forward") == 3755837543
    assert seed_of() == 3138146411
    assert numpy_generator(0, "sst", "pass", 0).integers(0, 1000, 3).tolist() == [369, 298, 743]


@given(keys)
def test_a_seed_is_32_bits(key: tuple[int | str, ...]) -> None:
    assert 0 <= seed_of(*key) < 2**32
    assert seed_of(*key) == seed_of(*key)


def test_neighbouring_keys_share_no_seed() -> None:
    seeds = {
        seed_of(seed, stage, step, task, purpose)
        for seed in range(3)
        for stage in range(3)
        for step in range(40)
        for task in ("a", "b")
        for purpose in ("forward", "fresh 1", "fresh 2")
    }
    assert len(seeds) == 3 * 3 * 40 * 2 * 3


def test_a_number_is_not_its_spelling_and_parts_do_not_run_together() -> None:
    assert seed_of(1) != seed_of("1")
    assert seed_of("a", "b") != seed_of("ab")
    assert seed_of("a, b") != seed_of("a", "b")
    assert seed_of(1, 23) != seed_of(12, 3)


def test_the_same_key_draws_the_same_and_another_key_another() -> None:
    def draws(*key: int | str) -> list[torch.Tensor]:
        reseed(*key)
        return [
            torch.rand(4),
            torch.rand(4, generator=torch_generator(*key)),
            torch.tensor(numpy_generator(*key).random(4)),
        ]

    first, again, other = draws(1, "x"), draws(1, "x"), draws(2, "x")
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_a_generator_leaves_the_default_ones_alone() -> None:
    reseed("here")
    wanted = torch.rand(3)
    reseed("here")
    torch.rand(3, generator=torch_generator("there"))
    numpy_generator("there").random(3)
    assert torch.equal(torch.rand(3), wanted)


def test_every_process_and_every_hash_seed_derives_the_same() -> None:
    code = "from polytask.runtime.keys import seed_of; import sys; sys.stdout.write(str(seed_of(3, 'task')))"
    for hash_seed, rank in (("1", "0"), ("2", "5")):
        environment = {"PYTHONHASHSEED": hash_seed, "RANK": rank, "WORLD_SIZE": "8", "OMP_NUM_THREADS": "1"}
        told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert int(told.stdout) == seed_of(3, "task")


def test_draws_of_a_numpy_generator_are_uniform() -> None:
    counts = np.bincount([int(numpy_generator(0, step).integers(0, 4)) for step in range(4000)], minlength=4)
    assert abs(counts - 1000).max() < 5 * np.sqrt(4000 * 0.25 * 0.75)
