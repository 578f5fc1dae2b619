"""What was read for one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from polytask.data.tables.examples import Examples


@dataclass(frozen=True)
class Splits:
    """What was read for one task: train, dev (or None), and the labels in their order, spelling to name.

    ``all_of_dev`` is dev with the rows that ``dev_rows`` left out; ``others`` are the fingerprints of further files that
    rows of train come from, and ``extra`` counts those rows.
    """

    train: Examples
    dev: Examples | None
    labels: dict[str, str]
    all_of_dev: Examples | None = None
    others: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, int] = field(default_factory=dict)

    @property
    def fingerprints(self) -> dict[str, str]:
        """The content of each table that was read, by split."""
        tables = {"train": self.train, "dev": self.dev}
        read = {split: table.fingerprint for split, table in tables.items() if table is not None}
        return {**read, **self.others}
