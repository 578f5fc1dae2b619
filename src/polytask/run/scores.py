"""Scores of one task, as the journal, the index and every report hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Scores:
    """What ``rows`` rows scored: each metric's value, by its name, the one that judges first."""

    rows: int
    values: Mapping[str, float]
