"""A run folder: its lock, and where everything lies in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from polytask.errors import Remedy, RunFolderError
from polytask.runtime import files

from .confined import check_confined
from .index import FORMAT, SINCE, Index

_KINDS = ("weights", "state")


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
        self.index_path = path / "index.json"
        self._lock = path / ".lock"

    @classmethod
    @contextmanager
    def claimed(cls, path: Path) -> Iterator[RunFolder]:
        """Make a new run folder and hold it. What a killed process left of one that never became a run is cleared away.

        Raises RunFolderError when a run, another process or anything else is there already. When the block fails
        before there is a run, the folder goes: it must not stand in the way of the next attempt.
        """
        folder = cls(path)
        if not folder._is_half_made():
            files.new_folder(path)
        with folder.locked():
            folder._clear()
            for name in (*_KINDS, folder.predictions.name):
                files.make_folder(path / name)
            try:
                yield folder
            except BaseException:
                if not folder.recipe.exists():
                    files.remove_tree(path)
                raise

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing one. Raises RunFolderError when it is not a run folder, or leads out of itself."""
        folder = cls(path)
        if not path.is_dir():
            raise RunFolderError(f"There is no run folder {path}.")
        if not folder.recipe.is_file():
            raise RunFolderError(f"{path} is not a run folder: it holds no recipe.toml.")
        check_confined(path)
        return folder

    def weights(self, name: str) -> Path:
        return self.path / "weights" / f"{name}.safetensors"

    def state(self, name: str) -> Path:
        return self.path / "state" / f"{name}.safetensors"

    def name_of(self, path: Path) -> str:
        """Return what the index calls a file."""
        return path.relative_to(self.path).as_posix()

    def read_index(self) -> Index:
        """Return the index. Raises RunFolderError when it is missing, damaged, or of another format."""
        try:
            text = self.index_path.read_text(encoding="utf-8")
            _check_format(self.index_path, json.loads(text))
            index = Index.model_validate_json(text)
        except FileNotFoundError:
            raise RunFolderError(f"{self.index_path} is missing.") from None
        except (ValidationError, ValueError, RecursionError) as error:
            first = str(error).splitlines()[0]
            raise RunFolderError(f"{self.index_path} is not an index that polytask wrote: {first}.") from None
        for name in index.kept:
            if not name.replace("-", "").isalnum():
                raise RunFolderError(f"{self.index_path} refers to '{name}', which is not the name of a checkpoint.")
        return index

    def write_index(self, index: Index) -> None:
        """Commit: from here on the folder is what this index says. Then drop the files that it no longer names."""
        kept: dict[str, set[str]] = {"weights": index.kept, "state": {index.last} if index.last else set()}
        current = {self.name_of(getattr(self, kind)(name)) for kind in _KINDS for name in kept[kind]}
        hashes = {n: digest for n, digest in index.hashes.items() if n in current or n.partition("/")[0] not in _KINDS}
        files.write_text(self.index_path, index.model_copy(update={"hashes": hashes}).model_dump_json(indent=1))
        for kind in _KINDS:
            for path in (self.path / kind).iterdir():
                if path.name.removesuffix(".safetensors") not in kept[kind]:
                    files.remove(path)

    def tidy(self) -> None:
        """Remove what a killed process left half-written; the lock says that no other one is writing."""
        for leftover in self.path.rglob(".*.part"):
            files.remove(leftover)

    def checked(self, path: Path, index: Index) -> Path:
        """Return ``path``, a file of the folder, if it is what the index knows. Raises RunFolderError if it is not."""
        try:
            now = files.digest(path)
        except FileNotFoundError:
            raise RunFolderError(f"{path} is missing.") from None
        except OSError as error:
            raise RunFolderError(f"{path} cannot be read: {error.strerror}.") from error
        if now != index.hashes.get(self.name_of(path)):
            raise RunFolderError(f"{path} is damaged or was altered: its SHA-256 is not the one in {self.index_path}.")
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: a second process that trains into it is refused while this one lives."""
        with files.disk_errors(self._lock):
            file = self._lock.open("a")
        with file:
            _flock(file, self.path)
            if not self._lock.exists() or not os.path.samestat(os.fstat(file.fileno()), self._lock.stat()):
                raise RunFolderError(f"Another process has just cleared {self.path} away; try again.")
            yield

    def _is_half_made(self) -> bool:
        # The lock is a run folder's first file and its recipe the last that makes it one.
        return self._lock.is_file() and not self.recipe.exists()

    def _clear(self) -> None:
        if self.recipe.exists():
            raise RunFolderError(f"{self.path} has become a run in the meantime.", Remedy("out"))
        with files.disk_errors(self.path):
            for name in (*_KINDS, self.predictions.name, "tables"):
                files.remove_tree(self.path / name)
            for path in self.path.iterdir():
                if path != self._lock and path.is_file():
                    files.remove(path)


def _check_format(path: Path, index: Any) -> None:
    known = index.get("format") if isinstance(index, dict) else None
    if isinstance(known, int) and known != FORMAT:
        older = "an older" if known < FORMAT else "a newer"
        why = f" ({SINCE})" if known < FORMAT else ""
        raise RunFolderError(
            f"{path.parent} was written by {older} polytask: its format is {known}, this polytask reads {FORMAT}{why}. "
            "Use the polytask that wrote it (recipe.toml names its version), or train its recipe again."
        )


def _flock(file: IO[str], path: Path) -> None:
    try:
        import fcntl
    except ImportError as error:  # pragma: no cover - Windows
        raise RunFolderError("Run folders are locked with flock, which this system does not have.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunFolderError(f"Another process is training into {path}.") from None
