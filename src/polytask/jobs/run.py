"""What a finished run came to: its folder, its scores, its model when it is wanted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.run.folder import RunFolder
from polytask.run.scores import Scores

if TYPE_CHECKING:
    from polytask.inference.predictor import Predictor


@dataclass(frozen=True)
class Run(os.PathLike[str]):
    """A run folder, and the dev scores of its joint best; a path wherever one is taken.

    ``aggregate`` is None, and ``scores`` are empty, for a run that had nothing to be scored on.
    """

    folder: Path
    scores: Mapping[str, Scores]
    aggregate: float | None
    finished: bool = True

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """Return what a run folder says of itself; neither model nor torch is loaded. Raises RunFolderError."""
        index = RunFolder.open(Path(folder)).read_index()
        return cls(Path(folder), index.best_scores, index.best_aggregate, index.finished)

    def load(self, **options: Any) -> Predictor:
        """Return the model, ready to predict; takes what ``polytask.load`` takes."""
        from polytask.inference.predictor import load

        return load(self.folder, **options)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name
