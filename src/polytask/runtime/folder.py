"""A run folder: its lock, its index, its journal, and where everything lies in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from polytask.errors import RunFolderError

from . import files


class Index(BaseModel):
    """What a run folder's ``index.json`` refers to. A file that it does not name does not count."""

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    last: str | None = None
    """Name of the last weights and state, ``weights/<last>.safetensors``."""
    best: str | None = None
    """Name of the weights with the best aggregate on dev, each encoder (if there are several) at its own best."""
    best_of: dict[str, str] = {}
    """Name of the weights with the best first metric of each task."""
    stage: int = 0
    step: int = 0
    """Steps of that stage that are done."""
    journal: int = 0
    """Length in bytes of the journal that belongs to the last checkpoint."""
    finished: bool = False
    best_aggregate: float | None = None
    best_values: dict[str, float] = {}
    """The best first metric of each task so far."""
    owes_evaluation: bool = False
    """Whether the evaluation after the last step was cut short by a request to stop."""
    scores: dict[str, dict[str, float]] = {}
    """The last scores of each task."""
    best_scores: dict[str, dict[str, float]] = {}
    """The scores of ``best``, as far as its tasks were trained."""
    stage_best: float | None = None
    """The best aggregate of the stage's own tasks within the stage."""
    stale: int = 0
    """Evaluations since then; what early stopping counts."""


class RunFolder:
    """Paths in a run folder, and its index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.toml"
        self.tokenizer = path / "tokenizer.json"
        self.encoder = path / "encoder.json"
        self.model = path / "model.safetensors"
        self.predictions = path / "predictions"
        self.journal_path = path / "journal.jsonl"

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new run folder. Raises RunFolderError when something lies there already."""
        files.new_folder(path)
        folder = cls(path)
        for name in ("weights", "state", "predictions"):
            (path / name).mkdir(exist_ok=True)
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing one. Raises RunFolderError when it is not a run folder."""
        folder = cls(path)
        if not path.is_dir():
            raise RunFolderError(f"There is no run folder {path}.")
        if not folder.recipe.is_file():
            raise RunFolderError(f"{path} is not a run folder: it holds no recipe.toml.")
        return folder

    def weights(self, name: str) -> Path:
        return self.path / "weights" / f"{name}.safetensors"

    def state(self, name: str) -> Path:
        return self.path / "state" / f"{name}.safetensors"

    def read_index(self) -> Index:
        """Return the index; an empty one before the first checkpoint."""
        path = self.path / "index.json"
        if not path.exists():
            return Index()
        try:
            index = Index.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise RunFolderError(f"{path} is not an index that polytask wrote: {str(error).splitlines()[0]}.") from None
        for name in (index.last, index.best, *index.best_of.values()):
            if name is not None and not name.replace("-", "").isalnum():
                raise RunFolderError(f"{path} refers to '{name}', which is not the name of a checkpoint.")
        return index

    def write_index(self, index: Index) -> None:
        """Commit: from here on the folder is what this index says. Then drop the files that it no longer names."""
        files.write_text(self.path / "index.json", index.model_dump_json(indent=1))
        kept = {index.last, index.best, *index.best_of.values()}
        for kind, names in (("weights", kept), ("state", {index.last})):
            for path in (self.path / kind).iterdir():
                if path.name.removesuffix(".safetensors") not in names:
                    files.remove(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: a second process that trains into it is refused while this one lives."""
        with (self.path / ".lock").open("a") as file:
            _lock(file, self.path)
            yield


class Journal:
    """One JSON object a line, in the order of events."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Open the journal and cut it to ``length`` bytes, what the last checkpoint knew of it.

        Raises RunFolderError when it is shorter than that.
        """
        with files.told(path):
            self._file = path.open("ab")
            known = self._file.seek(0, 2)
            if known < length:
                self._file.close()
                raise RunFolderError(
                    f"{path} has {known} bytes; at the last checkpoint it had {length}. It was altered."
                )
            if known > length:
                self._file.truncate(length)
                self._file.seek(0, 2)

    def write(self, event: str, **fields: Any) -> None:
        """Append an event."""
        line = json.dumps({"event": event, **fields}, ensure_ascii=False, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    @property
    def length(self) -> int:
        return self._file.tell()

    def sync(self) -> None:
        """Wait until the events are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the events of a journal; a line that a crash tore off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def _lock(file: IO[str], path: Path) -> None:
    try:
        import fcntl
    except ImportError as error:  # pragma: no cover - Windows
        raise RunFolderError("Run folders are locked with flock, which this system does not have.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunFolderError(f"Another process is training into {path}.") from None
