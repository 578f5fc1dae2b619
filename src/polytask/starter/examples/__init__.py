"""Three small labelled English tables that polytask writes itself, for a first run without any download.

Each task has a grammar of its own. Dev texts come from templates and content words that train does not have, and labels
hang on negation, order and roles: a bag of words learns little, and a dev score shows what the encoder understands.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from .grammar import FUNCTION_WORDS, Row, Split
from .paraphrase import paraphrase_rows
from .sentiment import SENTIMENT_LABELS, sentiment_rows
from .similarity import similarity_rows

__all__ = [
    "FUNCTION_WORDS",
    "SENTIMENT_LABELS",
    "SPLITS",
    "TABLES",
    "Row",
    "Split",
    "paraphrase_rows",
    "sentiment_rows",
    "similarity_rows",
    "write_examples",
]

SPLITS: tuple[Split, ...] = ("train", "dev")

TABLES: dict[str, Callable[[Split, int], list[Row]]] = {
    "sentiment": sentiment_rows,
    "paraphrase": paraphrase_rows,
    "similarity": similarity_rows,
}
"""The row function of each task."""


def write_examples(folder: Path, *, seed: int = 0) -> dict[str, Path]:
    """Write the six tables as CSV files into ``folder``, and return their paths by ``<task>-<split>``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path] = {}
    for task, rows in TABLES.items():
        for split in SPLITS:
            name = f"{task}-{split}"
            paths[name] = folder / f"{name}.csv"
            _write(paths[name], rows(split, seed))
    return paths


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
