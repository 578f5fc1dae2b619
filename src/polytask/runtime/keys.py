"""Randomness is derived, not carried: every draw is seeded from a key that says what it is for.

A resumed run needs no saved generator, processes cannot drift apart, and "the same dropout again" is the same key.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager

import numpy as np
import torch

Key = tuple[int | str, ...]
"""For example ``(run seed, stage, step, task, micro-batch, purpose)``; never the rank of a process."""


def seed_of(*key: int | str) -> int:
    """Return 32 bits hashed from a key. Hashed, because torch's CPU generator keeps only the low 32 bits of a seed."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def reseed(*key: int | str) -> None:
    """Seed the framework's default generators, those that dropout draws from."""
    torch.manual_seed(seed_of(*key))


def numpy_generator(*key: int | str) -> np.random.Generator:
    """Return a numpy generator for a key."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.blake2b(repr(key).encode()).digest(), "little")))


def torch_generator(*key: int | str) -> torch.Generator:
    """Return a torch CPU generator for a key."""
    return torch.Generator().manual_seed(seed_of(*key))


def draws_kept(device: torch.device) -> AbstractContextManager[None]:
    """Return what has everything after it draw again what was drawn within it, on the CPU and on ``device``."""
    if device.type == "cpu":
        return torch.random.fork_rng([])
    return torch.random.fork_rng([device], device_type=device.type)
