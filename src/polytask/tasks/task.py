"""The record of one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from polytask.metrics.base import Metric

from .kinds.base import Kind


@dataclass(frozen=True)
class Task:
    """A task's choices, after the recipe is resolved.

    ``text`` names one column or two; with two, ``pair`` says whether they are joined ("cross", with or without token
    types) or encoded apart ("bi"). ``label`` names the column of the labels, or a column for each label.
    ``consistency`` is the weight of the divergence between the two orders of a symmetric pair task; None where the
    order counts. An ``auxiliary`` task is trained on, and not evaluated.
    ``metrics`` score it, by name; checkpoints are judged by the first.
    """

    name: str
    kind: Kind
    text: tuple[str, ...]
    label: str | tuple[str, ...]
    id: str | None
    max_length: int
    pair: Literal["single", "cross", "bi"]
    token_types: bool = True
    consistency: float | None = None
    auxiliary: bool = False
    metrics: Mapping[str, Metric] = field(default_factory=dict)

    @property
    def streams(self) -> int:
        return 2 if self.pair == "bi" else 1
